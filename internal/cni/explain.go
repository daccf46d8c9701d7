package cni

import (
	"bytes"
	"context"
	"fmt"

	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/plan"
)

// Explain has a command written down instead of done, and returns what it would
// print. newFace must return a driver whose handles write to the same plan as
// links; the directories of this process must be copies that it may change.
//
// c.Netns may be empty for ADD, too: then the sandbox is one without any link.
func Explain(ctx context.Context, c Command, links *link.Dry, newFace func() (Face, error)) (result []byte, err error) {
	named := c
	if named.Netns == "" {
		named.Netns = "none"
	}
	if err := named.check(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = run(context.WithValue(ctx, dryKey{}, links), c, &out, newFace)
	return out.Bytes(), err
}

type dryKey struct{}

// dryOf returns where a command is written down, nil if it is to be done.
func dryOf(ctx context.Context) *link.Dry {
	d, _ := ctx.Value(dryKey{}).(*link.Dry)
	return d
}

// openLinks opens the links of a sandbox.
func openLinks(ctx context.Context, sandbox *netns.Handle) (*link.Handle, error) {
	if d := dryOf(ctx); d != nil {
		return d.Open(sandbox)
	}
	return link.Open(sandbox)
}

// inSandbox runs f inside, with the links there.
func inSandbox(ctx context.Context, sandbox *netns.Handle, f func(*link.Handle) error) error {
	if dryOf(ctx) != nil {
		h, err := openLinks(ctx, sandbox)
		if err != nil {
			return err
		}
		defer h.Close()
		return f(h)
	}
	return netns.Do(sandbox, func() error {
		h, err := link.OpenHere()
		if err != nil {
			return err
		}
		defer h.Close()
		return f(h)
	})
}

// drySandbox opens the sandbox of a plan. Our own namespace stands for one that
// nobody named: it is there, and nothing of it is looked at.
func (o op) drySandbox(d *link.Dry) (*netns.Handle, error) {
	path := o.Netns
	if path == "" {
		path = "/proc/self/ns/net"
	}
	h, err := netns.Open(path)
	if err != nil {
		return nil, &Error{Code: CodeUnknown, Msg: fmt.Sprintf("the namespace %q: %v", path, err)}
	}
	d.Space("sandbox", h, o.Netns == "")
	return h, nil
}

// explain writes down the call of a delegated plugin.
func (d delegated) explain(dry *link.Dry, verb string) {
	dry.Plan.Add(plan.Other, "host", "CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_NETNS=%s CNI_IFNAME=%s %s", verb, d.ContainerID, d.Netns, d.IfName, d.path)
	if verb == "ADD" {
		dry.Plan.Add(plan.Note, "host", "the addresses are for %s to choose: what depends on them is not in this plan", d.kind)
	}
}
