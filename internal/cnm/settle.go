package cnm

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
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
	return s.Settle(ctx, n.Config(), e)
}
