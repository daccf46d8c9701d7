package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/table"
)

// A Finding is something that is not as it was left, as diff and repair print it.
type Finding struct {
	Driver    string `json:"driver"`
	Network   string `json:"network"`
	Container string `json:"container,omitempty"` // empty: all of the network's; else as in a Stat
	Interface string `json:"interface,omitempty"`
	Engine    string `json:"engine"`       // "cni" or "docker"
	ID        string `json:"id,omitempty"` // of the endpoint
	bowline.Difference
	Repaired bool   `json:"repaired"`
	Error    string `json:"error,omitempty"` // why it was not, or what could not be told
}

func (s Spec) finding(t target, d bowline.Difference) Finding {
	f := Finding{Driver: s.Name, Network: t.network, Engine: "cni", Difference: d}
	if t.docker != nil {
		f.Engine = "docker"
	}
	if r := t.record; !t.isNetwork() {
		f.Container, f.Interface, f.ID = cmp.Or(r.Name, r.Container, r.ID), r.IfName, r.ID
	}
	return f
}

// differs prints what differs, and says so by the exit status.
func (s Spec) differs(ctx context.Context, c *call) error {
	if _, err := c.parse(c.flags()); err != nil {
		return err
	}
	in, err := s.inspector()
	if err != nil {
		return err
	}
	fs, err := in.once(ctx, false)
	if perr := printFindings(c, fs); err != nil || perr != nil {
		return errors.Join(err, perr)
	}
	return foundAny(fs)
}

// repairs makes right what differs, once or whenever something does.
func (s Spec) repairs(ctx context.Context, c *call) error {
	flags, watch := c.flags(), false
	flags.BoolVar(&watch, "watch", false, "go on, and repair what breaks within a second")
	if _, err := c.parse(flags); err != nil {
		return err
	}
	in, err := s.inspector()
	if err != nil {
		return err
	}
	if watch {
		return in.watch(ctx, func(fs []Finding, err error) {
			if err != nil {
				fmt.Fprintf(c.stderr, "bowline-%s repair: %v\n", s.Name, err)
			}
			_ = printLines(c, fs)
		})
	}
	fs, err := in.once(ctx, true)
	if perr := printFindings(c, fs); err != nil || perr != nil {
		return errors.Join(err, perr)
	}
	return foundAny(slices.DeleteFunc(fs, func(f Finding) bool { return f.Repaired }))
}

func foundAny(fs []Finding) error {
	if len(fs) > 0 {
		return errFound
	}
	return nil
}

func printFindings(c *call, fs []Finding) error {
	return table.Print(c.stdout, c.json, "NETWORK\tCONTAINER\tREPAIRED\tWHAT", fs, func(w io.Writer, f Finding) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Network, cmp.Or(f.Container, "-"), strconv.FormatBool(f.Repaired), f.text())
	})
}

// printLines prints rows that come one after the other, without a heading.
func printLines(c *call, fs []Finding) error {
	if c.json {
		return printFindings(c, fs)
	}
	for _, f := range fs {
		state := "repaired"
		if !f.Repaired {
			state = "not repaired"
		}
		if _, err := fmt.Fprintf(c.stdout, "network %s, container %s: %s: %s\n", f.Network, cmp.Or(f.Container, "-"), state, f.text()); err != nil {
			return err
		}
	}
	return nil
}

func (f Finding) text() string {
	switch {
	case f.Error == "":
		return f.Difference.String()
	case f.Difference == (bowline.Difference{}):
		return f.Error
	}
	return f.Difference.String() + ": " + f.Error
}
