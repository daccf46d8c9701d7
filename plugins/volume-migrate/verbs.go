package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/bowline-net/bowline/internal/table"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/pool"
)

func initialize(ctx context.Context, c *call) error {
	if c.undo {
		return pool.Undo(ctx, c.dir)
	}
	return pool.Init(ctx, c.dir, uint64(c.size))
}

// within opens the pool for f.
func (c *call) within(ctx context.Context, f func(p *pool.Pool) error) error {
	p, err := pool.Open(ctx, c.dir)
	if err != nil {
		return err
	}
	return f(p)
}

func create(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error { return p.Create(ctx, c.args[0], c.o) })
}

func list(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error {
		all, err := p.List(ctx)
		perr := table.Print(c.stdout, c.json, "VOLUME\tOWNER\tSIZE\tUSED\tSNAPSHOTS\tMOUNTS\tUSERS", all, func(w io.Writer, i pool.Info) {
			limit := size(i.Size)
			text := limit.String()
			if limit == 0 {
				text = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\n", i.Name, i.Owner.Host, text, i.Used, len(i.Snapshots), len(i.Mounts), len(i.Users))
		})
		if err == nil {
			err = perr
		}
		return err
	})
}

func inspect(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error {
		i, err := p.Inspect(ctx, c.args[0], true)
		if err != nil {
			return err
		}
		e := json.NewEncoder(c.stdout)
		e.SetIndent("", "  ")
		return e.Encode(i)
	})
}

func remove(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error {
		if _, _, err := p.Path(ctx, c.args[0]); err != nil {
			return err // a person has mistyped it
		}
		return p.Remove(ctx, c.args[0], c.force)
	})
}

func snapshot(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error {
		_, err := p.Snapshot(ctx, c.args[0], c.args[1])
		return err
	})
}

func snapshots(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error {
		all, err := p.Snapshots(ctx, c.args[0])
		if err != nil {
			return err
		}
		return table.Print(c.stdout, c.json, "SNAPSHOT\tID\tCREATED", all, func(w io.Writer, s volume.Snapshot) {
			fmt.Fprintf(w, "%s\t%.8s\t%s\n", s.Name, s.ID, s.Created.Format(time.RFC3339))
		})
	})
}

func rollback(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error { return p.Rollback(ctx, c.args[0], c.args[1]) })
}

func deleteSnapshot(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error { return p.DeleteSnapshot(ctx, c.args[0], c.args[1]) })
}

func resize(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error { return p.Resize(ctx, c.args[0], uint64(c.size)) })
}

func send(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error { return p.Send(ctx, c.args[0], c.args[1], c.base, c.stdout) })
}

func receive(ctx context.Context, c *call) error {
	return c.within(ctx, func(p *pool.Pool) error {
		name := ""
		if len(c.args) > 0 {
			name = c.args[0]
		}
		_, err := p.Receive(ctx, name, c.stdin)
		return err
	})
}
