package main

import (
	"context"
	"errors"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// Where a NIC may be that was lent.
const (
	nowhere = iota // gone with its namespace, or on its way back
	atHome         // in the host, under whatever name
	away           // in its sandbox
)

// A found is where a NIC is.
type found struct {
	where int
	nic   link.Info
	in    *link.Handle  // of the sandbox, if it is away
	ns    *netns.Handle // the same
	ino   uint64        // the same
	alive bool          // the sandbox is still where its engine mounted it, or a process is inside
}

func (f found) close() {
	if f.in != nil {
		f.in.Close()
	}
	if f.ns != nil {
		f.ns.Close()
	}
}

// find looks for the NIC of the loan: in the host, by its alias, which the kernel
// keeps where it brings a NIC back under another name; or as it was, if it was
// never marked or is all put back; then in the namespace that was pinned, and in
// the one that it went to; and last wherever a process of this machine holds it.
func (d *driver) find(ctx context.Context, l loan) (found, error) {
	marked, err := d.host.Aliased(ctx, l.alias())
	if err != nil {
		return found{}, err
	}
	if len(marked) > 0 {
		return found{where: atHome, nic: marked[0]}, nil
	}
	nic, err := d.host.Get(ctx, l.Name)
	if err == nil && nic.MAC.String() == l.MAC && nic.Alias == l.Alias {
		return found{where: atHome, nic: nic}, nil
	}
	if err != nil && !errors.Is(err, bowline.ErrUnknown) {
		return found{}, err
	}
	f, err := d.findAway(ctx, l)
	if err != nil || f.where != nowhere {
		return f, err
	}
	// It may have come home between the two looks: dockerd moves NICs, too.
	if marked, err = d.host.Aliased(ctx, l.alias()); err == nil && len(marked) > 0 {
		return found{where: atHome, nic: marked[0]}, nil
	}
	return f, err
}

func (d *driver) findAway(ctx context.Context, l loan) (found, error) {
	l = d.joined(ctx, l)
	for _, path := range []string{l.Pin, l.Sandbox} {
		if path == "" {
			continue
		}
		ns, err := netns.Open(path)
		if err != nil {
			continue
		}
		if f, err := d.findIn(ctx, l, ns, l.alive()); err != nil || f.where == away {
			return f, err
		}
	}
	if l.NetnsIno == 0 || d.plan != nil {
		return found{}, nil
	}
	ns, alive := l.hidden()
	if ns == nil {
		return found{}, nil
	}
	return d.findIn(ctx, l, ns, alive)
}

// findIn looks for the NIC in a namespace, which it closes unless it is there.
func (d *driver) findIn(ctx context.Context, l loan, ns *netns.Handle, alive bool) (found, error) {
	f := found{ns: ns, alive: alive}
	id, err := ns.ID()
	if err == nil {
		f.ino = id.Ino
		f.in, err = d.host.In(ns)
	}
	if err != nil {
		f.close()
		return found{}, err
	}
	nics, err := f.in.Aliased(ctx, l.alias())
	if err != nil || len(nics) == 0 {
		f.close()
		return found{}, err
	}
	f.where, f.nic = away, nics[0]
	return f, nil
}

// joined returns the loan with the sandbox that Docker has joined it to since.
func (d *driver) joined(ctx context.Context, l loan) loan {
	if !l.Docker || l.Sandbox != "" {
		return l
	}
	if r, err := state.OpenEndpoints().Get(ctx, "host", l.Network, l.Endpoint); err == nil {
		l.Sandbox, l.NetnsIno = r.Sandbox, r.NetnsIno
	}
	return l
}

// backWithin is how long the kernel is given to bring a NIC back from a
// namespace that has ended; it does so some time after the last process.
const backWithin = 3 * time.Second

// awaited is find that waits for a NIC that is on its way.
func (d *driver) awaited(ctx context.Context, l loan) (found, error) {
	for until := time.Now().Add(backWithin); ; {
		f, err := d.find(ctx, l)
		if err != nil || f.where != nowhere || l.Kind != "" || l.Pin != "" || d.plan != nil || time.Now().After(until) {
			return f, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return f, ctx.Err()
		}
	}
}
