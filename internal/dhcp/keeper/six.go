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
	"github.com/bowline-net/bowline/internal/undo"
)

// How long a router is waited for, where there may be none and where there must
// be one, and for what it leads to where there is IPv4 too. A router answers
// within half a second (RFC 4861, 6.2.6).
const (
	maybeRouter  = 1500 * time.Millisecond
	surelyRouter = 6 * time.Second
	autoWithin   = 6 * time.Second
)

// prepare6 has the kernel listen to routers on the link, which must be so before
// it comes up. In mode "dhcp" it makes no addresses of its own.
func prepare6(ctx context.Context, u *undo.Stack, p *place, mode string) error {
	autoconf := "1"
	if mode == dhcp.IPv6DHCP {
		autoconf = "0"
	}
	conf := "net/ipv6/conf/" + p.Name + "/"
	for _, kv := range [][2]string{{"autoconf", autoconf}, {"accept_ra", "2"}, {"disable_ipv6", "0"}} {
		before, err := p.links.SetSysctl(ctx, conf+kv[0], kv[1])
		if errors.Is(err, bowline.ErrNoKernel) && mode == dhcp.IPv6Auto {
			return nil
		}
		if err != nil {
			return err
		}
		if before != kv[1] {
			back := func(ctx context.Context) error {
				_, err := p.links.SetSysctl(ctx, conf+kv[0], before)
				return err
			}
			p.revert = append(p.revert, back)
			u.Push("set "+conf+kv[0]+" back", back)
		}
	}
	return nil
}

// ask6 gets addresses in the way that is asked for, or that the router says.
func (l *lease) ask6(ctx context.Context, p *place) error {
	r := l.record()
	if r.IPv6 == dhcp.IPv6Off {
		return nil
	}
	limit := surelyRouter
	if r.IPv6 == dhcp.IPv6Auto {
		limit = maybeRouter
	}
	found, err := p.Solicit(ctx, limit)
	managed := r.IPv6 == dhcp.IPv6DHCP || r.IPv6 == dhcp.IPv6Auto && found.Managed
	auto := r.IPv6 != dhcp.IPv6DHCP && slices.ContainsFunc(found.Prefixes, func(p wire.Prefix) bool { return p.Auto })
	switch {
	case err != nil && !errors.Is(err, wire.ErrNoRouter):
		return err
	case r.IPv6 == dhcp.IPv6Auto && !managed && !auto: // there is no IPv6 here
		for _, back := range slices.Backward(p.revert) {
			err = errors.Join(err, back(ctx))
		}
		if errors.Is(err, wire.ErrNoRouter) {
			return nil
		}
		return err
	case r.IPv6 == dhcp.IPv6SLAAC && err != nil:
		return err
	case r.IPv6 == dhcp.IPv6SLAAC && !auto:
		return fmt.Errorf("%w with a prefix to make addresses of: %s has none", wire.ErrNoRouter, found.Addr)
	}
	if err == nil {
		if err := l.change(ctx, func(r *record) { r.Router = &router{Router: found} }); err != nil {
			return err
		}
	}
	if r.IPv6 == dhcp.IPv6Auto && r.IPv4 { // better one family than none
		inner, cancel := context.WithTimeout(ctx, autoWithin)
		defer cancel()
		if err := l.ask6As(inner, p, auto, managed); err != nil && ctx.Err() == nil {
			l.log.Warn("no IPv6 address, though there is a router", "router", found.Addr, "error", err)
		}
		return nil
	}
	return l.ask6As(ctx, p, auto, managed)
}

func (l *lease) ask6As(ctx context.Context, p *place, auto, managed bool) error {
	var errs []error
	if auto {
		errs = append(errs, l.awaitAuto(ctx, p))
	}
	if managed {
		errs = append(errs, six{l}.ask(ctx, p))
	}
	return errors.Join(errs...)
}

// awaitAuto waits until the kernel has made an address and nobody else turns out
// to have it, and puts it on record.
func (l *lease) awaitAuto(ctx context.Context, p *place) error {
	r := l.record()
	for {
		made, err := autoOf(ctx, r, p)
		if err != nil {
			return err
		}
		if len(made) == 0 {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: the kernel made no address of what %s says", wire.ErrNoRouter, r.Router.Addr)
			}
			sleep(ctx, now().add(20*time.Millisecond))
			continue
		}
		if err := p.links.WaitDAD(ctx, p.Index, 5*time.Second); err != nil {
			return err
		}
		if err := l.change(ctx, func(r *record) { r.Router = &router{r.Router.Router, made} }); err != nil {
			return err
		}
		if r.Foreign {
			// They want to add it themselves, and fail if it is there; which it
			// would be again by the router's next word.
			if _, err := p.links.SetSysctl(ctx, "net/ipv6/conf/"+p.Name+"/autoconf", "0"); err != nil {
				return err
			}
			for _, a := range made {
				if err := p.links.DeleteAddr(ctx, p.Index, a); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// autoOf returns the addresses that the kernel made of what routers say.
func autoOf(ctx context.Context, r record, p *place) (made []netip.Prefix, err error) {
	all, err := p.links.Addrs(context.WithoutCancel(ctx), p.Index)
	for _, a := range all {
		if a.Addr().Is6() && (r.Six == nil || a.Addr() != r.Six.Addr) {
			made = append(made, a)
		}
	}
	slices.SortFunc(made, netip.Prefix.Compare)
	return made, err
}

// follow6 puts on record which addresses the kernel has made since.
func (l *lease) follow6(ctx context.Context, r record, p *place) error {
	if r.Foreign || len(r.Router.Auto) == 0 {
		return nil
	}
	made, err := autoOf(ctx, r, p)
	if err != nil || slices.Equal(made, r.Router.Auto) {
		return err
	}
	if err := l.change(ctx, func(r *record) { r.Router = &router{r.Router.Router, made} }); err != nil {
		return err
	}
	r = l.record()
	return l.tell(ctx, r.lease())
}

// six is the lease's binding of DHCPv6.
type six struct{ *lease }

func (s six) times() (times, bool) {
	r := s.record()
	if r.Six == nil {
		return times{}, false
	}
	return times{r.Six.Since, r.Six.T1, r.Six.T2, r.Six.End}, true
}

func (s six) ask(ctx context.Context, p *place) error {
	r, start := s.record(), now()
	b, err := r.six(p.Link).Acquire(ctx)
	if err != nil {
		return err
	}
	if err := s.change(ctx, func(r *record) { r.Six = &bound6{b, start} }); err != nil {
		return errors.Join(err, r.six(p.Link).Release(b)) // nobody will know of it
	}
	return nil
}

func (s six) acquire(ctx context.Context, p *place) error {
	return s.applied(ctx, p, func() error { return s.ask(ctx, p) })
}

func (s six) extend(ctx context.Context, p *place, rebind bool) error {
	r := s.record()
	client, start := r.six(p.Link), now()
	extend := client.Renew
	if rebind {
		extend = client.Rebind
	}
	b, err := extend(ctx, r.Six.Binding6)
	if err != nil {
		return err
	}
	s.log.Debug("lease renewed", "address", b.Addr)
	return s.applied(ctx, p, func() error {
		return s.change(ctx, func(r *record) { r.Six = &bound6{b, start} })
	})
}

func (s six) lose(ctx context.Context) error {
	return s.drop(ctx, func(r *record) { r.Six = nil })
}
