package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/overlay"
)

// A Report says what Apply found and did.
type Report struct {
	MTU       int // bytes, of the network's links
	Made      []string
	Put, Drop int               // routes, neighbours and FDB entries
	Held      *overlay.Held     // not nil: what the brake kept
	Skipped   []overlay.Skipped // blocks that cannot be reached
}

func (r *Report) made(what string) { r.Made = append(r.Made, what) }

// Changed reports whether Apply changed anything.
func (r *Report) Changed() bool { return len(r.Made)+r.Put+r.Drop > 0 }

// Apply brings the network on this host from whatever is there to what it must
// be: its namespace, its tunnel and who may send by it, what leads to other nodes,
// and the endpoints, of which others than those given are left alone. What is
// right is not touched, and nothing that was reachable stops being so. After an
// error the rest is not done; Apply again goes on from there.
//
// The error wraps [bowline.ErrInvalid] if the network cannot be, and
// [bowline.ErrConflict] if somebody else has its VNI, at that port, on this host.
func (p *Path) Apply(ctx context.Context, v overlay.View, endpoints []Endpoint, b overlay.Brake) (Report, error) {
	var r Report
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := v.Network.Check(); err != nil {
		return r, err
	}
	mtu, err := v.Network.FitMTU(v.Underlay, v.Nodes)
	if err != nil {
		return r, err
	}
	r.MTU = mtu
	want, skipped, err := v.Want(mtu)
	if err != nil {
		return r, err
	}
	r.Skipped = skipped
	// Before there is a tunnel that somebody could send to.
	changes, err := p.rules.EnsureTunnel(ctx, nft.Tunnel{Port: v.Underlay.Port, VNI: v.Network.VNI, Peers: v.VTEPs()})
	if err != nil {
		return r, err
	}
	if changes > 0 {
		r.made(fmt.Sprintf("%d senders", changes))
	}
	s, err := p.ensureSpace(ctx, v.Network, &r)
	if err != nil {
		return r, err
	}
	defer s.close()
	index, err := p.ensureTunnel(ctx, s, v, &r)
	if err != nil {
		return r, err
	}
	if err := s.program(ctx, index, want, b, &r); err != nil {
		return r, err
	}
	for _, e := range endpoints {
		made, err := p.attach(ctx, s, v.Network, mtu, e)
		if err != nil {
			return r, err
		}
		if made {
			r.made("endpoint " + e.ID)
		}
	}
	return r, nil
}

// ensureTunnel makes the VXLAN, or makes it anew if it is another one, and
// returns its index.
func (p *Path) ensureTunnel(ctx context.Context, s *space, v overlay.View, r *Report) (index int, err error) {
	mac := overlay.Node{ID: v.Self}.MAC()
	want := link.VXLAN{
		Name: tunnel, Alias: fmt.Sprintf("bowline: VNI %d", v.Network.VNI), VNI: v.Network.VNI,
		Local: v.Underlay.VTEP, Port: v.Underlay.Port, MAC: mac[:], MTU: r.MTU,
	}
	have, err := s.links.SeeVXLAN(ctx, tunnel)
	if err == nil && have.From >= 0 && have.MTU != want.MTU { // a packet is lost neither now nor later
		if err := s.links.Set(ctx, tunnel, link.Change{MTU: want.MTU}); err != nil {
			return 0, err
		}
		r.made("MTU of the tunnel")
		have.MTU = want.MTU
	}
	switch {
	case err == nil && have.From >= 0 && have.Is(want):
	case err == nil, errors.Is(err, bowline.ErrConflict):
		if err := s.links.Delete(ctx, tunnel); err != nil {
			return 0, err
		}
		fallthrough
	case errors.Is(err, bowline.ErrUnknown):
		if err := p.host.CreateVXLAN(ctx, s.links, want); err != nil {
			return 0, err
		}
		r.made("tunnel")
		if have, err = s.links.SeeVXLAN(ctx, tunnel); err != nil {
			return 0, err
		}
	default:
		return 0, err
	}
	if !have.Up {
		if err := s.links.Set(ctx, tunnel, link.Change{Up: true}); err != nil {
			return 0, err
		}
		r.made("tunnel up")
	}
	return have.Index, nil
}

// program makes the tunnel's entries those that are wanted.
func (s *space) program(ctx context.Context, index int, want overlay.Entries, b overlay.Brake, r *Report) error {
	have, err := s.entries(ctx, index)
	if err != nil {
		return err
	}
	c := overlay.Diff(want, have, b)
	r.Put, r.Drop, r.Held = c.Put.Len(), c.Drop.Len(), c.Held
	if c.Empty() {
		return nil
	}
	// A route must find its next hop, and that its VTEP; so they go the other way.
	return errors.Join(
		s.links.PutForwards(ctx, index, forwards(c.Put)),
		s.links.PutNeighbours(ctx, index, neighbours(c.Put)),
		s.links.PutTunnelRoutes(ctx, index, routes(c.Put)),
		s.links.DeleteTunnelRoutes(ctx, index, routes(c.Drop)),
		s.links.DeleteNeighbours(ctx, index, neighbours(c.Drop)),
		s.links.DeleteForwards(ctx, index, forwards(c.Drop)),
	)
}

// entries returns what the kernel has.
func (s *space) entries(ctx context.Context, index int) (overlay.Entries, error) {
	var e overlay.Entries
	rs, err1 := s.links.TunnelRoutes(ctx, index)
	ns, err2 := s.links.Neighbours(ctx, index)
	fs, err3 := s.links.Forwards(ctx, index)
	if err := errors.Join(err1, err2, err3); err != nil {
		return e, err
	}
	for _, r := range rs {
		e.Routes = append(e.Routes, overlay.Route{Prefix: r.Dst, Via: r.Via, MTU: r.MTU, Metric: r.Priority})
	}
	for _, n := range ns {
		if len(n.MAC) == 6 {
			e.Neighbours = append(e.Neighbours, overlay.Neighbour{Addr: n.Addr, MAC: overlay.MAC(n.MAC)})
		}
	}
	for _, f := range fs {
		e.Forwards = append(e.Forwards, overlay.Forward{MAC: overlay.MAC(f.MAC), VTEP: f.VTEP})
	}
	return e, nil
}

func routes(e overlay.Entries) (all []link.TunnelRoute) {
	for _, r := range e.Routes {
		all = append(all, link.TunnelRoute{Dst: r.Prefix, Via: r.Via, Unreachable: !r.Via.IsValid(), MTU: r.MTU, Priority: r.Metric})
	}
	return all
}

func neighbours(e overlay.Entries) (all []link.Neighbour) {
	for _, n := range e.Neighbours {
		all = append(all, link.Neighbour{Addr: n.Addr, MAC: net.HardwareAddr(n.MAC[:])})
	}
	return all
}

func forwards(e overlay.Entries) (all []link.Forward) {
	for _, f := range e.Forwards {
		all = append(all, link.Forward{MAC: net.HardwareAddr(f.MAC[:]), VTEP: f.VTEP})
	}
	return all
}
