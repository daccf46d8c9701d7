package cni

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
)

// lo is the name of every namespace's loopback, whatever CNI_IFNAME says.
const lo = "lo"

// loopbackAlias says that we brought the loopback up, so that DEL takes down
// none that was up before.
const loopbackAlias = "bowline loopback"

// MainLoopback runs the one command that the environment names as the loopback
// plugin, which engines call for each sandbox beside that of its network. It
// returns the exit status: 0 done, 1 failed.
func MainLoopback(stdin io.Reader, stdout io.Writer) int {
	return answer("loopback", stdin, stdout, func(ctx context.Context, c Command) (Config, error) {
		return runLoopback(ctx, c, stdout)
	})
}

// runLoopback returns the configuration beside the error, as run does.
func runLoopback(ctx context.Context, c Command, stdout io.Writer) (Config, error) {
	if c.Verb == "VERSION" {
		return Config{}, printVersion(c, stdout)
	}
	cfg, err := Parse(c)
	if err != nil {
		return cfg, err
	}
	ctx = journal.With(ctx, "network", cfg.Name)
	if err := supports(c.Verb, cfg.CNIVersion); err != nil {
		return cfg, err
	}
	o := op{Command: c, Config: cfg}
	switch c.Verb {
	case "ADD":
		var r *types100.Result
		if r, err = o.loopbackUp(ctx); err == nil {
			err = printResult(stdout, r, cfg.CNIVersion)
		}
	case "CHECK":
		err = o.inLoopback(ctx, func(_ *link.Handle, l link.Info) error {
			if !l.Up {
				return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("CNI_NETNS=%q: link lo has state down, want up", o.Netns))
			}
			return nil
		})
	case "DEL":
		err = o.loopbackDown(ctx)
	}
	return cfg, err
}

// inLoopback runs f in the sandbox.
func (o op) inLoopback(ctx context.Context, f func(*link.Handle, link.Info) error) error {
	sandbox, err := o.openSandbox(ctx)
	if err != nil {
		return err
	}
	defer sandbox.Close()
	return inSandbox(ctx, sandbox, func(h *link.Handle) error {
		l, err := h.Get(ctx, lo)
		if err != nil {
			return err
		}
		return f(h, l)
	})
}

// loopbackUp brings the loopback up and says what addresses the kernel gave it.
// The result of plugins before this one is passed on.
func (o op) loopbackUp(ctx context.Context) (*types100.Result, error) {
	r, err := o.prevResult()
	if err != nil {
		return nil, err
	}
	var has []netip.Prefix
	err = o.inLoopback(ctx, func(h *link.Handle, l link.Info) error {
		if !l.Up {
			if err := h.Set(ctx, lo, link.Change{Alias: loopbackAlias, Up: true}); err != nil {
				return err
			}
		}
		has, err = h.Addrs(ctx, l.Index)
		return err
	})
	if err != nil || r != nil {
		return r, err
	}
	r = &types100.Result{Interfaces: []*types100.Interface{{Name: lo, Mac: "00:00:00:00:00:00", Sandbox: o.Netns}}}
	for _, p := range has {
		if p.Addr().IsLoopback() {
			r.IPs = append(r.IPs, &types100.IPConfig{Interface: new(int), Address: ipNet(p)})
		}
	}
	return r, nil
}

// loopbackDown takes the loopback down if ADD brought it up. Nothing is left to
// do in a namespace that is gone.
func (o op) loopbackDown(ctx context.Context) error {
	if _, there := netns.Stat(o.Netns); !there {
		return nil
	}
	return o.inLoopback(ctx, func(h *link.Handle, l link.Info) error {
		if l.Alias != loopbackAlias {
			return nil
		}
		if err := h.Set(ctx, lo, link.Change{Down: true}); err != nil {
			return err
		}
		return h.SetAlias(ctx, l.Index, "")
	})
}
