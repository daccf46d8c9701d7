package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/internal/volume"
)

// Create makes a volume. It succeeds if there is one that was made with the same
// options; the error wraps [bowline.ErrConflict] if it was made with others.
func (p *Pool) Create(ctx context.Context, name string, o Options) error {
	r, unlock, err := p.lock(ctx, name)
	if unlock != nil {
		defer unlock()
	}
	if err == nil {
		if reflect.DeepEqual(r.Options, o) {
			return nil
		}
		return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("volume %q exists, with other options", name))
	}
	if !errors.Is(err, bowline.ErrUnknown) {
		return err
	}
	if o.From != "" && o.Clone != "" {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("volume %q: from=%s and clone=%s: want one of them", name, o.From, o.Clone))
	}
	if o.Clone == name || strings.HasPrefix(o.From, name+"@") {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("volume %q: it cannot be made of itself", name))
	}
	now := time.Now().UTC().Truncate(time.Second)
	r = record{Volume: volume.Volume{Name: name, Size: o.Size, Labels: o.Labels, Owner: volume.Owner{Host: p.host, Epoch: 1}, Created: now}, Options: o}
	var u undo.Stack
	defer u.Rollback(ctx)
	if err := p.write(ctx, r); err != nil {
		return err
	}
	u.Push("erase volume "+name, func(ctx context.Context) error { return p.erase(ctx, name) })
	if err := p.make(ctx, name, o); err != nil {
		return err
	}
	r.Ready = true
	if err := p.write(ctx, r); err != nil {
		return err
	}
	u.Commit()
	return nil
}

// make has the back-end make a volume.
func (p *Pool) make(ctx context.Context, name string, o Options) error {
	if o.From == "" && o.Clone == "" {
		return p.backend.Create(ctx, name, o.Size)
	}
	from, snap, ok := strings.Cut(o.From, "@")
	if o.From != "" && !ok {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("volume %q: from=%q: want VOLUME@SNAPSHOT", name, o.From))
	}
	if o.Clone != "" {
		from, snap = o.Clone, ""
	}
	// Two that are made of each other at once would wait for each other for ever.
	// What is ready is not being made.
	if r, err := p.read(ctx, from); err != nil || !r.Ready {
		return errors.Join(err, unknown(from))
	}
	return p.use(ctx, from, func(*record) error {
		if snap == "" {
			snap = passing(name)
			if _, err := p.backend.Snapshot(ctx, from, snap); err != nil {
				return err
			}
			defer func() { _ = p.backend.DeleteSnapshot(context.WithoutCancel(ctx), from, snap) }()
		}
		return p.backend.Clone(ctx, from, snap, name, o.Size)
	})
}

// passing is the name of a snapshot that is there while a volume is cloned. People
// cannot give such a name.
func passing(clone string) string { return "_clone-" + clone }

// Remove removes a volume with its snapshots. It succeeds if there is none. The
// error wraps [bowline.ErrConflict] while it is used, which force overlooks if
// all that says so is a record.
func (p *Pool) Remove(ctx context.Context, name string, force bool) error {
	err := p.use(ctx, name, func(r *record) error {
		if err := p.unused(r, force); err != nil {
			return err
		}
		if len(r.Mounts) > 0 {
			slog.WarnContext(ctx, "removed by force: an engine did not unmount it", "volume", name, "mounts", r.Mounts)
		}
		r.Ready = false
		if err := p.write(ctx, *r); err != nil {
			return err
		}
		return p.erase(ctx, name)
	})
	if errors.Is(err, bowline.ErrUnknown) {
		return nil
	}
	return err
}

// unused returns the error if somebody uses the volume.
func (p *Pool) unused(r *record, force bool) error {
	used, err := mounted(p.backend.Path(r.Name))
	if err != nil {
		return err
	}
	if len(used) > 0 {
		return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("volume %q is in use by %s", r.Name, strings.Join(used, ", ")))
	}
	if len(r.Mounts) > 0 && !force {
		return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("volume %q is in use by %d mounts of an engine", r.Name, len(r.Mounts)))
	}
	return nil
}

// Info is what there is to know of a volume.
type Info struct {
	volume.Volume
	Kind      string            `json:"kind"`
	Path      string            `json:"path"`
	Used      uint64            `json:"used"`
	Mounts    []string          `json:"mounts"`
	Users     []string          `json:"users"` // processes that have it mounted, as PID NAME
	Snapshots []volume.Snapshot `json:"snapshots"`
}

// Inspect returns what there is to know of a volume. What it holds is counted
// file by file if it has no size, so that can be left out.
func (p *Pool) Inspect(ctx context.Context, name string, count bool) (i Info, err error) {
	err = p.use(ctx, name, func(r *record) error {
		i = Info{Volume: r.Volume, Kind: p.Kind(), Path: p.backend.Path(name), Mounts: r.Mounts}
		if count || r.Size != 0 {
			usage, err := p.backend.Usage(ctx, name)
			if err != nil {
				return err
			}
			i.Used = usage.Used
		}
		if i.Users, err = mounted(i.Path); err != nil {
			return err
		}
		i.Snapshots, err = p.backend.Snapshots(ctx, name)
		return err
	})
	return i, err
}

// Path returns the directory of a volume.
func (p *Pool) Path(ctx context.Context, name string) (path string, mounts int, err error) {
	err = p.use(ctx, name, func(r *record) error {
		path, mounts = p.backend.Path(name), len(r.Mounts)
		return nil
	})
	return path, mounts, err
}

// List returns all volumes, sorted by name. What cannot be read comes as errors,
// joined, beside the others.
func (p *Pool) List(ctx context.Context) ([]Info, error) {
	names, err := p.names(ctx)
	var all []Info
	for _, name := range names {
		i, ierr := p.Inspect(ctx, name, true)
		if ierr == nil {
			all = append(all, i)
		} else if !errors.Is(ierr, bowline.ErrUnknown) { // gone meanwhile
			err = errors.Join(err, ierr)
		}
	}
	return all, err
}

// Names returns the names of all volumes that are ready, with their directories.
func (p *Pool) Names(ctx context.Context) (map[string]string, error) {
	names, err := p.names(ctx)
	paths := map[string]string{}
	for _, name := range names {
		r, rerr := p.read(ctx, name)
		if rerr == nil && r.Ready {
			paths[name] = p.backend.Path(name)
		} else if rerr != nil && !errors.Is(rerr, bowline.ErrUnknown) {
			err = errors.Join(err, rerr)
		}
	}
	return paths, err
}
