package keeper

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/state"
)

// IPAM is the type of CNI's IPAM plugin, as endpoints' records have it.
const IPAM = "bowline-dhcp"

// applied runs f, which changes the record, and gives the link what changed by
// it, so that what is on record is never less than what the link has.
func (l *lease) applied(ctx context.Context, p *place, f func() error) error {
	r := l.record()
	before := r.lease()
	if err := f(); err != nil {
		return err
	}
	r = l.record()
	after := r.lease()
	if same(before, after) {
		return nil
	}
	l.log.Info("lease changed", "had", before.Prefixes(), "has", after.Prefixes())
	// Whoever repairs endpoints goes by their records, so these come first.
	if err := l.tell(ctx, after); err != nil {
		l.log.Warn("endpoint's record not changed", "error", err)
	}
	return l.k.kernel(func() error { return dress(context.WithoutCancel(ctx), p, before, after) })
}

func same(a, b dhcp.Lease) bool {
	return slices.Equal(a.Addrs, b.Addrs) && slices.EqualFunc(a.Routes, b.Routes, sameRoute)
}

func sameRoute(a, b bowline.Route) bool {
	return a.Dst == b.Dst && a.Via == b.Via && a.Priority == b.Priority
}

// dress takes from the link what before had and after has not, and gives it what
// after has. The kernel takes routes along with addresses, and addresses along
// with others of their prefix: so what goes goes first, and what stays is made
// sure of.
func dress(ctx context.Context, p *place, before, after dhcp.Lease) error {
	var errs []error
	for _, r := range before.Routes {
		if !slices.ContainsFunc(after.Routes, func(o bowline.Route) bool { return sameRoute(o, r) }) {
			errs = append(errs, p.links.DeleteRoute(ctx, p.Index, r))
		}
	}
	kept := after.Prefixes()
	for _, a := range before.Prefixes() {
		if !slices.Contains(kept, a) {
			errs = append(errs, p.links.DeleteAddr(ctx, p.Index, a))
		}
	}
	had := before.Prefixes()
	for _, a := range kept {
		_, err := p.links.EnsureAddr(ctx, p.Index, link.Addr{Prefix: a})
		errs = append(errs, err)
		if err == nil && a.Addr().Is4() && !slices.Contains(had, a) {
			errs = append(errs, p.Announce(a.Addr()))
		}
	}
	for _, r := range after.Routes {
		_, err := p.links.EnsureRoute(ctx, p.Index, r)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tell changes the records of the lease's endpoint, so that they say what the
// link has. It waits for who holds the endpoint, until ctx ends: that may be who
// waits for this lease to end.
func (l *lease) tell(ctx context.Context, after dhcp.Lease) error {
	r := l.record()
	all, err := l.k.endpoints.All(ctx)
	errs := []error{err}
	for _, e := range all {
		if e.Ready && e.Network == r.Network && e.ID == r.ID && (e.IPAM == IPAM || e.Face == "cnm") {
			errs = append(errs, l.tellOne(ctx, e, after))
		}
	}
	return errors.Join(errs...)
}

func (l *lease) tellOne(ctx context.Context, e state.Endpoint, after dhcp.Lease) error {
	for {
		release, ok := l.k.endpoints.TryHold(e.Driver, e.Network, e.ID)
		if ok {
			defer release()
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		sleep(ctx, now().add(20*time.Millisecond))
	}
	unlock, err := l.k.endpoints.Serving(e.Driver) // commands change records too
	if err != nil {
		return err
	}
	defer unlock()
	e, err = l.k.endpoints.Get(ctx, e.Driver, e.Network, e.ID)
	if err != nil {
		return err
	}
	e.Addrs = after.Prefixes()
	if e.Face != "cnm" { // there Docker gives the routes
		e.Routes, e.Pools = after.Routes, nil
		for _, a := range after.Addrs {
			p := bowline.Pool{Prefix: a.Prefix.Masked()}
			if a.Gateway.IsValid() && a.Prefix.Contains(a.Gateway) {
				p.Gateway = a.Gateway
			}
			e.Pools = append(e.Pools, p)
		}
	}
	return l.k.endpoints.Replace(ctx, e)
}
