package cnm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// settleWithin is how long dockerd may take from its Join until the link is up in
// the sandbox. It takes a tenth of a second, or seconds on a host that is busy.
const settleWithin = time.Minute

// settleSoon has the driver finish the endpoint once dockerd has moved its link
// into the sandbox and dressed it there: no call tells of that.
func (d *NetworkDriver) settleSoon(n Network, id, sandbox string, att bowline.Attachment) {
	s, ok := d.Driver.(bowline.Settler)
	if !ok || att.Link == "" {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
		defer cancel()
		if err := d.settle(ctx, s, n, id, sandbox, att); err != nil && d.there(ctx, n.ID, id) {
			d.log.Warn("endpoint not finished", "network", n.ID, "endpoint", id, "error", err)
		}
	}()
}

// there reports whether the endpoint is still one of ours.
func (d *NetworkDriver) there(ctx context.Context, network, id string) bool {
	_, err := d.endpoints.Get(context.WithoutCancel(ctx), d.Name, network, id)
	return err == nil
}

func (d *NetworkDriver) settle(ctx context.Context, s bowline.Settler, n Network, id, path string, att bowline.Attachment) error {
	host, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer host.Close()
	if err := host.WaitLinks(ctx, func(all []link.Info) bool {
		return !slices.ContainsFunc(all, func(l link.Info) bool { return l.Name == att.Link })
	}); err != nil {
		return fmt.Errorf("wait for link %s to be moved: %w", att.Link, err)
	}
	sandbox, err := netns.Open(path)
	if err != nil {
		return err
	}
	defer sandbox.Close()
	in, err := link.Open(sandbox)
	if err != nil {
		return err
	}
	defer in.Close()
	name := "" // the one that dockerd has given it: it comes up last
	if err := in.WaitLinks(ctx, func(all []link.Info) bool {
		i := slices.IndexFunc(all, func(l link.Info) bool { return l.Up && bytes.Equal(l.MAC, att.MAC) })
		if i >= 0 {
			name = all[i].Name
		}
		return i >= 0
	}); err != nil {
		return fmt.Errorf("wait for the link with MAC %s to come up in %s: %w", att.MAC, path, err)
	}
	unlock, err := d.locks.lock(ctx, n.ID)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := d.endpoints.Get(ctx, d.Name, n.ID, id)
	if err != nil || rec.Sandbox != path { // it left meanwhile
		return err
	}
	if ns, err := sandbox.ID(); err == nil && rec.NetnsIno == 0 {
		rec.NetnsIno = ns.Ino
		if err := d.endpoints.Put(ctx, rec); err != nil {
			return err
		}
	}
	e := rec.Spec()
	e.Sandbox, e.IfName = sandbox, name
	return errors.Join(s.Settle(ctx, n.Config(), e), announce(ctx, sandbox, name, att))
}

// announce tells the neighbours of the link whose its addresses are now: dockerd
// before 28 does not, and they may remember who had them before.
func announce(ctx context.Context, sandbox *netns.Handle, name string, att bowline.Attachment) error {
	if att.Quiet || len(att.Addrs) == 0 {
		return nil
	}
	var v4, v6 []netip.Addr
	for _, p := range att.Addrs {
		if p.Addr().Is4() {
			v4 = append(v4, p.Addr())
		} else {
			v6 = append(v6, p.Addr())
		}
	}
	return netns.Do(sandbox, func() error {
		h, err := link.OpenHere()
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := h.Get(ctx, name)
		if err != nil {
			return err
		}
		if len(v4) > 0 {
			err = h.AnnounceIPv4(ctx, l, v4...)
		}
		if len(v6) > 0 {
			err = errors.Join(err, h.AnnounceIPv6(ctx, l, v6...))
		}
		return err
	})
}

// unsettle removes what the endpoint has in the sandbox that it was in last, if
// that lives: a container that was disconnected. dockerd has taken the link out
// by then, so nothing passes there without its policy.
func (d *NetworkDriver) unsettle(ctx context.Context, n Network, rec state.Endpoint) error {
	u, ok := d.Driver.(bowline.Unsettler)
	if !ok {
		return nil
	}
	d.mu.Lock()
	was, known := d.left[rec.ID]
	d.mu.Unlock()
	if known {
		rec = was
	}
	sandbox := netns.OpenIno(rec.Sandbox, rec.NetnsIno)
	if sandbox == nil {
		return nil
	}
	defer sandbox.Close()
	e := rec.Spec()
	e.Sandbox = sandbox
	return u.Unsettle(ctx, n.Config(), e)
}
