package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/dhcp/wire"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/undo"
)

// defaultTimeout is how long a link waits for a server unless it was said. A
// server that looks whether an address is in use takes three seconds.
const defaultTimeout = 20 * time.Second

// acquire gets addresses for a link, and answers when they are on record.
func (k *Keeper) acquire(ctx context.Context, r dhcp.Request) (none dhcp.Lease, err error) {
	if err := check(r); err != nil {
		return none, err
	}
	end, err := k.turn(ctx, r.Key)
	if err != nil {
		return none, err
	}
	defer end()
	rec := record{Request: r, BootID: state.BootID()}
	var u undo.Stack
	defer u.Rollback(ctx)
	var hint netip.Addr
	if old := k.find(r.Key); old != nil { // nobody asks twice for a link that lives well
		old.halt()
		was := old.record()
		rec.Client, rec.Four, rec.Six = was.Client, was.Four, was.Six
		if was.Four != nil {
			hint = was.Four.Addr.Addr()
		}
		u.Push("give up the lease before", func(ctx context.Context) error { return old.end(ctx, "another was asked for") })
	} else {
		rec.Client = k.clientID(r)
	}
	var p *place
	err = k.kernel(func() error {
		p, err = rec.enter(ctx, &u)
		return err
	})
	if err != nil {
		return none, fmt.Errorf("network %q: dhcp: %w", r.Network, err)
	}
	defer p.close()
	if err := k.store.Put(ctx, name(r.Key), rec); err != nil {
		return none, err
	}
	l := k.add(rec)
	u.Push("give up the lease", func(ctx context.Context) error { return l.end(ctx, "it was not completed") })
	if err := l.ask(ctx, p, hint); err != nil {
		return none, err
	}
	if err := ctx.Err(); err != nil { // nobody is there to be told
		return none, err
	}
	u.Commit()
	l.start()
	got := l.record()
	l.log.Info("lease acquired", "addresses", got.lease().Prefixes(), "link", p.Name)
	return got.lease(), nil
}

func check(r dhcp.Request) error {
	words := []string{dhcp.IPv6Auto, dhcp.IPv6DHCP, dhcp.IPv6SLAAC, dhcp.IPv6Off}
	switch {
	case r.Network == "" || r.ID == "" || r.Link == "":
		return bowline.Wrong(bowline.ErrInvalid, "dhcp: want the network, the endpoint and the link")
	case !slices.Contains(words, r.IPv6):
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: dhcp: ipv6=%q: want one of %q", r.Network, r.IPv6, words))
	case !r.IPv4 && r.IPv6 == dhcp.IPv6Off:
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: dhcp: ipv4=false and ipv6=\"off\": want one family at least", r.Network))
	}
	return nil
}

// clientID returns what servers are to know the link's owner by: what it is
// called, so that its follower gets the same address; but not while there is
// another one that is called so.
func (k *Keeper) clientID(r dhcp.Request) []byte {
	if r.Name == "" {
		return clientID(r, r.ID)
	}
	id := clientID(r, r.Name)
	for _, l := range k.all(r.Network) {
		if string(l.record().Client) == string(id) {
			return clientID(r, r.ID)
		}
	}
	return id
}

// enter opens the link's place for the first time, and brings it up.
func (r *record) enter(ctx context.Context, u *undo.Stack) (*place, error) {
	r.NetnsIno = 0
	p, err := r.open(ctx)
	if errors.Is(err, errGone) {
		where := "the host"
		if r.Sandbox != "" {
			where = r.Sandbox
		}
		return nil, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("there is no link %s in %s", r.Request.Link, where))
	}
	if err != nil {
		return nil, err
	}
	if p.ns != nil {
		id, err := p.ns.ID()
		if err != nil {
			p.close()
			return nil, err
		}
		r.NetnsIno = id.Ino
	}
	if err := r.raise(ctx, u, p); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (r *record) raise(ctx context.Context, u *undo.Stack, p *place) error {
	info, err := p.links.Get(ctx, p.Name)
	if err != nil {
		return err
	}
	if len(info.MAC) != 6 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("link %s has no Ethernet address", p.Name))
	}
	r.MAC = info.MAC.String()
	if host, err := link.Open(nil); err == nil { // without it a release may not get through, no more
		if up, err := host.Uplink(ctx, p.links, p.Name); err == nil {
			r.Uplink = up.Name
		}
		host.Close()
	}
	if r.IPv6 != dhcp.IPv6Off {
		if err := prepare6(ctx, u, p, r.IPv6); err != nil {
			return err
		}
	}
	if p.ns == nil {
		// It is not there to stay, and must not give the host IPv6 routes.
		if _, err := p.links.SetSysctl(ctx, "net/ipv6/conf/"+p.Name+"/disable_ipv6", "1"); err != nil && !errors.Is(err, bowline.ErrNoKernel) {
			return err
		}
	}
	if info.Up {
		return nil
	}
	if err := p.links.Set(ctx, p.Name, link.Change{Up: true}); err != nil {
		return err
	}
	u.Push("take link down", func(ctx context.Context) error { return p.links.Set(ctx, p.Name, link.Change{Down: true}) })
	return nil
}

// ask asks for all families at once, and puts what it gets on record.
func (l *lease) ask(ctx context.Context, p *place, hint netip.Addr) error {
	r := l.record()
	limit := r.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	failed := make(chan error, 2)
	go func() { failed <- l.ask4(inner, p, hint) }()
	go func() { failed <- l.ask6(inner, p) }()
	err := errors.Join(<-failed, <-failed)
	if err == nil {
		return nil
	}
	if errors.Is(err, wire.ErrSilent) || errors.Is(err, wire.ErrInUse) || errors.Is(err, wire.ErrNoRouter) || errors.Is(err, wire.ErrRefused) {
		return bowline.Wrong(bowline.ErrExhausted, fmt.Sprintf("network %q: dhcp: link %s of endpoint %s: %v (waited %s)", r.Network, p.Name, r.ID, err, limit))
	}
	return fmt.Errorf("network %q: dhcp: link %s of endpoint %s: %w", r.Network, p.Name, r.ID, err)
}

func (l *lease) ask4(ctx context.Context, p *place, hint netip.Addr) error {
	if r := l.record(); !r.IPv4 {
		return nil
	}
	return four{l}.ask(ctx, p, hint)
}
