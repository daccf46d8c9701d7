package keeper

import (
	"context"
	"errors"
	"net/netip"
)

// four is the lease's binding of DHCPv4.
type four struct{ *lease }

func (f four) times() (times, bool) {
	r := f.record()
	if r.Four == nil {
		return times{}, false
	}
	return times{r.Four.Since, r.Four.T1, r.Four.T2, r.Four.End}, true
}

// ask gets a binding, that of hint if it may be had again. It is on
// record before the link gets the address.
func (f four) ask(ctx context.Context, p *place, hint netip.Addr) error {
	r := f.record()
	start := now()
	b, err := r.four(p.Link).Acquire(ctx, hint)
	if err != nil {
		return err
	}
	if err := f.change(ctx, func(r *record) { r.Four = &bound4{b, start} }); err != nil {
		return errors.Join(err, r.four(p.Link).Release(b)) // nobody will know of it
	}
	return nil
}

func (f four) acquire(ctx context.Context, p *place) error {
	return f.applied(ctx, p, func() error { return f.ask(ctx, p, netip.Addr{}) })
}

func (f four) extend(ctx context.Context, p *place, rebind bool) error {
	r := f.record()
	client, start := r.four(p.Link), now()
	extend := client.Renew
	if rebind {
		extend = client.Rebind
	}
	b, err := extend(ctx, r.Four.Binding4)
	if err != nil {
		return err
	}
	if b.Addr.Addr() != r.Four.Addr.Addr() { // as if refused, and another one offered
		f.log.Warn("the server gives another address", "had", r.Four.Addr, "given", b.Addr)
	}
	f.log.Debug("lease renewed", "address", b.Addr, "server", b.Server)
	return f.applied(ctx, p, func() error {
		return f.change(ctx, func(r *record) { r.Four = &bound4{b, start} })
	})
}

func (f four) lose(ctx context.Context) error {
	return f.drop(ctx, func(r *record) { r.Four = nil })
}

// drop changes the record to have less, and takes that from the link, if there
// is one.
func (l *lease) drop(ctx context.Context, less func(*record)) error {
	r := l.record()
	p, err := l.k.open(ctx, &r)
	if errors.Is(err, errGone) {
		return l.change(ctx, less)
	}
	if err != nil {
		return err
	}
	defer p.close()
	return l.applied(ctx, p, func() error { return l.change(ctx, less) })
}
