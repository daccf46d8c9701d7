package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/overlay"
	"github.com/bowline-net/bowline/internal/undo"
)

// An Endpoint is a container's place on a network.
type Endpoint struct {
	ID    string
	MAC   net.HardwareAddr
	Addrs []netip.Prefix // each with the length of its subnet's prefix
	// Sandbox is where the link goes, as Link, and is dressed. Without one it
	// stays in the host, as [Endpoint.HostLink], for an engine to take.
	Sandbox bowline.Namespace
	Link    string
}

// HostLink is the name of a link that waits in the host for its engine.
func (e Endpoint) HostLink() string { return bowline.LinkName("bwc", e.ID) }

// outer is its other end, in the network's namespace.
func (e Endpoint) outer() string { return bowline.LinkName("bwo", e.ID) }

func (e Endpoint) alias() string { return "bowline: endpoint " + e.ID }

// Attach gives the endpoint its link. When it returns, the container is reached
// from every node that knows of the block its addresses are in. The network must
// have been applied; mtu is what that reported. It reports whether there was
// something to do.
//
// The error wraps [bowline.ErrInvalid] if an address is in no subnet,
// [bowline.ErrUnknown] if there is no such network, and [bowline.ErrConflict] if a
// name is taken in the sandbox. After an error there is nothing of the endpoint
// that was not there before.
func (p *Path) Attach(ctx context.Context, n overlay.Network, mtu int, e Endpoint) (made bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.enter(n.VNI)
	if err != nil {
		return false, err
	}
	defer s.close()
	return p.attach(ctx, s, n, mtu, e)
}

func (p *Path) attach(ctx context.Context, s *space, n overlay.Network, mtu int, e Endpoint) (made bool, err error) {
	if err := e.check(n); err != nil {
		return false, err
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	made, err = p.ensureVeth(ctx, s, mtu, e)
	if err != nil {
		return false, err
	}
	if made {
		u.Push("delete endpoint "+e.ID, func(ctx context.Context) error { return s.detach(ctx, e.outer()) })
	}
	outer, err := s.links.Get(ctx, e.outer())
	if err != nil {
		return false, err
	}
	led, err := s.lead(ctx, n, mtu, outer, e)
	if err != nil {
		return false, err
	}
	if made && e.Sandbox != nil {
		if err := dress(ctx, n, e); err != nil {
			return false, err
		}
		// Until then the kernel throws away what is for the container.
		if err := s.links.WaitCarrier(ctx, e.outer()); err != nil {
			return false, err
		}
	}
	u.Commit()
	return made || led, nil
}

// check returns what is wrong with the endpoint.
func (e Endpoint) check(n overlay.Network) error {
	place := fmt.Sprintf("endpoint %q", e.ID)
	if e.ID == "" || len(e.MAC) != 6 || len(e.Addrs) == 0 || e.Sandbox != nil && e.Link == "" {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: MAC=%s link=%q: want an ID, a MAC of 6 bytes, an address, and a link name in its sandbox", place, e.MAC, e.Link))
	}
	for _, a := range e.Addrs {
		if !slices.Contains(prefixes(n), a.Masked()) {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: address %s: want one of %v, with that length", place, a, prefixes(n)))
		}
	}
	return nil
}

// ensureVeth makes the link unless it is there.
func (p *Path) ensureVeth(ctx context.Context, s *space, mtu int, e Endpoint) (made bool, err error) {
	v := link.Veth{Name: e.outer(), MAC: gateway(), Alias: e.alias(), MTU: mtu, Peer: e.HostLink(), PeerMAC: e.MAC, PeerNS: p.ns}
	if e.Sandbox != nil {
		v.Peer, v.PeerNS = e.Link, e.Sandbox
	}
	have, err := s.links.Get(ctx, v.Name)
	if errors.Is(err, bowline.ErrUnknown) {
		return true, s.links.CreateVeth(ctx, v)
	}
	if err != nil {
		return false, err
	}
	whole := have.Kind == "veth" && have.Alias == v.Alias && have.MAC.String() == v.MAC.String()
	if whole && e.Sandbox != nil {
		if whole, err = s.links.IsVeth(ctx, v); err != nil {
			return false, err
		}
	}
	if !whole { // half-made, or led elsewhere: the namespace is ours alone
		if err := s.detach(ctx, v.Name); err != nil {
			return false, err
		}
		return true, s.links.CreateVeth(ctx, v)
	}
	return false, nil
}

// lead makes what leads to the container, and what answers it.
func (s *space) lead(ctx context.Context, n overlay.Network, mtu int, outer link.Info, e Endpoint) (made bool, err error) {
	set := outer.MTU != mtu || !outer.Up
	if set {
		if err := s.links.Set(ctx, outer.Name, link.Change{MTU: mtu, Up: true}); err != nil {
			return false, err
		}
	}
	// Of neighbours a namespace has no default settings. By itself the kernel
	// answers for others after up to 0.8 s.
	before, err := s.links.SetSysctl(ctx, "net/ipv4/neigh/"+outer.Name+"/proxy_delay", "0")
	if err != nil {
		return false, err
	}
	made = set || before != "0"
	have, err := s.links.Peers(ctx, outer.Index)
	if err != nil {
		return false, err
	}
	for _, a := range e.Addrs {
		if h, there := have[a.Addr()]; there && !h.Part && h.MAC.String() == e.MAC.String() {
			continue
		}
		if err := s.links.EnsurePeer(ctx, outer.Index, link.Peer{Addr: a.Addr(), MAC: e.MAC}); err != nil {
			return false, err
		}
		made = true
	}
	if !n.HasV6() {
		return made, nil
	}
	answers, err := s.rules.EnsureAnswers(ctx, outer.Name, outer.Index, gateway(), prefixes(n))
	return made || answers, err
}

// dress gives the link in the sandbox its addresses, brings it up, and leads what
// is for elsewhere to the gateways.
func dress(ctx context.Context, n overlay.Network, e Endpoint) error {
	in, err := link.Open(e.Sandbox)
	if err != nil {
		return err
	}
	defer in.Close()
	inner, err := in.Get(ctx, e.Link)
	if err != nil {
		return err
	}
	for _, a := range e.Addrs {
		if _, err := in.EnsureAddr(ctx, inner.Index, link.Addr{Prefix: a}); err != nil {
			return err
		}
	}
	if err := in.Set(ctx, e.Link, link.Change{Up: true}); err != nil {
		return err
	}
	for _, sub := range n.Subnets {
		if !slices.ContainsFunc(e.Addrs, func(a netip.Prefix) bool { return a.Masked() == sub.Prefix }) {
			continue
		}
		zero := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if sub.Gateway.Is6() {
			zero = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if _, err := in.EnsureRoute(ctx, inner.Index, bowline.Route{Dst: zero, Via: sub.Gateway}); err != nil {
			return err
		}
	}
	return nil
}

// Detach removes the endpoint. It succeeds if there is nothing of it.
func (p *Path) Detach(ctx context.Context, vni uint32, endpoint string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.enter(vni)
	if errors.Is(err, bowline.ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.close()
	return s.detach(ctx, Endpoint{ID: endpoint}.outer())
}

func (s *space) detach(ctx context.Context, outer string) error {
	return errors.Join(s.links.Delete(ctx, outer), s.rules.DeleteAnswers(ctx, outer))
}
