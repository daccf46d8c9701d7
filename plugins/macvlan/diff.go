package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

var _ bowline.Inspector = (*driver)(nil)

// Diff implements [bowline.Inspector].
func (d *driver) Diff(ctx context.Context, places []bowline.Place) []bowline.Inspection {
	return d.inspect(ctx, places, (*survey).diff)
}

// inspect calls f with each place and one survey.
func (d *driver) inspect(ctx context.Context, places []bowline.Place, f func(*survey, context.Context, bowline.Place, options) bowline.Inspection) []bowline.Inspection {
	s, err := d.survey(ctx)
	defer s.close()
	return endpoint.Each(places, err, parseOptions, func(p bowline.Place, o options) bowline.Inspection { return f(s, ctx, p, o) })
}

// CheckEndpoint implements [bowline.Driver].
func (d *driver) CheckEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	return endpoint.Check(ctx, d, n, e)
}

func (s *survey) diff(ctx context.Context, p bowline.Place, o options) (i bowline.Inspection) {
	if p.Endpoint.ID == "" {
		i.Found, i.Err = s.diffNetwork(ctx, p.Network, o)
		return i
	}
	l, there := s.of(p.Network, p.Endpoint)
	if !there {
		mac, err := askedMAC(p.Network, o, p.Endpoint)
		i.Err = err
		i.Found = []bowline.Difference{{Place: "sandbox", Key: "link " + innerName(p.Network, p.Endpoint), Want: "macvlan"}}
		i.Attachment = attachment(p.Network, o, p.Endpoint, link.Info{Name: innerName(p.Network, p.Endpoint), MAC: mac})
		return i
	}
	i.Attachment = attachment(p.Network, o, p.Endpoint, l.Info)
	i.Found, i.Err = s.diffEndpoint(ctx, p, o, l)
	return i
}

// diffNetwork compares the parent.
func (s *survey) diffNetwork(ctx context.Context, n bowline.NetworkConfig, o options) ([]bowline.Difference, error) {
	var ds endpoint.Differences
	if o.linkInContainer {
		return nil, nil
	}
	if l, err := s.d.findParent(ctx, n, o); gone(err) {
		ds.Gone(o.parent, "parent")
	} else if err == nil {
		ds.Link(l.Name, "state", endpoint.UpOrDown(l.Up), "up")
	} else if !errors.Is(err, bowline.ErrUnavailable) {
		return nil, err
	}
	return ds, nil
}

// diffEndpoint compares the endpoint's link, which is there, and what goes with
// it in the sandbox and on the host.
func (s *survey) diffEndpoint(ctx context.Context, p bowline.Place, o options, l link.Elsewhere) ([]bowline.Difference, error) {
	n, e := p.Network, p.Endpoint
	var ds endpoint.Differences
	if e.Sandbox != nil && e.IfName != "" {
		ds.Link(l.Name, "name", l.Name, e.IfName)
	}
	ds.Link(l.Name, "mode", l.Mode, o.mode)
	if o.mode == link.ModeSource {
		ds.Link(l.Name, "sources", macText(l.Sources), macText(o.sources))
	}
	if o.bcQueueLen != 0 {
		ds.Link(l.Name, "bcqueuelen", strconv.Itoa(l.BCQueueLen), strconv.Itoa(o.bcQueueLen))
	}
	if o.bcLim != nil {
		ds.Link(l.Name, "bclim", strconv.Itoa(l.BCLim), strconv.Itoa(*o.bcLim))
	}
	var parent link.Info
	if !o.linkInContainer {
		var err error
		if parent, err = s.d.findParent(ctx, n, o); err != nil {
			return ds, nil // the network tells
		}
		if o.parent != "" && l.Parent != parent.Index {
			ds.Link(l.Name, "parent", s.nameOf(l.Parent), parent.Name)
		}
		want := cmp.Or(endpoint.OptionsOf(e).MTU, o.mtu, parent.MTU)
		ds.Link(l.Name, "mtu", strconv.Itoa(l.MTU), strconv.Itoa(min(want, parent.MTU)))
	}
	if o.hostAccess && len(e.Addrs) > 0 && parent.Index != 0 {
		if err := s.diffHostAccess(ctx, &ds, n, o, e, parent, l.MAC); err != nil {
			return ds, err
		}
	}
	if e.Sandbox == nil {
		return ds, nil
	}
	more, err := s.d.diffInside(ctx, n, e, l.Name)
	return append(ds, more...), err
}

func macText(macs []net.HardwareAddr) string {
	var texts []string
	for _, m := range macs {
		texts = append(texts, m.String())
	}
	slices.Sort(texts)
	return fmt.Sprint(texts)
}

// nameOf returns the name of the host's link with that index.
func (s *survey) nameOf(index int) string {
	for name, l := range s.links {
		if l.Index == index {
			return name
		}
	}
	return fmt.Sprintf("link %d", index)
}

// diffInside compares limits and policy, which only the sandbox can tell.
func (d *driver) diffInside(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec, name string) ([]bowline.Difference, error) {
	in, done, err := d.in(e)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := in.Get(ctx, name); gone(err) {
		return nil, nil // it is in another sandbox, or not there yet
	} else if err != nil {
		return nil, err
	}
	return d.inside(e, in, name).Diff(ctx, n, e)
}

// diffHostAccess compares the shim and what the endpoint has there.
func (s *survey) diffHostAccess(ctx context.Context, ds *endpoint.Differences, n bowline.NetworkConfig, o options, e bowline.EndpointSpec, parent link.Info, mac net.HardwareAddr) error {
	name := shimName(n, parent.Name)
	l, there := s.links[name]
	if !there {
		ds.Gone(name, "host access")
		return nil
	}
	ds.Link(name, "state", endpoint.UpOrDown(l.Up), "up")
	if l.Parent != parent.Index {
		ds.Link(name, "parent", s.nameOf(l.Parent), parent.Name)
	}
	srcs, err := s.d.hostAddrs(ctx, o, parent)
	if err != nil {
		return err
	}
	if err := s.diffSeen(ctx, ds, o, l, srcs); err != nil {
		return err
	}
	have, err := s.d.host.Peers(ctx, l.Index)
	if err != nil {
		return err
	}
	for _, a := range e.Addrs {
		want := link.Peer{Addr: a.Addr(), MAC: mac, Src: sourceFor(a.Addr(), srcs)}
		if got, ok := have[a.Addr()]; !ok || got.Part {
			ds.Link(name, "peer", "", peerText(want))
		} else {
			ds.Link(name, "peer", peerText(got), peerText(want))
		}
	}
	rules, err := s.firewall(ctx)
	if err != nil {
		return err
	}
	filter, err := rules.DiffShim(ctx, name)
	if err != nil {
		return err
	}
	more, err := rules.DiffShimPeer(ctx, peerOf(n, e, name, mac))
	*ds = append(append(*ds, filter...), more...)
	return err
}

// diffSeen compares the addresses of the shim.
func (s *survey) diffSeen(ctx context.Context, ds *endpoint.Differences, o options, shim link.Seen, srcs []netip.Prefix) error {
	have, err := s.d.host.Addrs(ctx, shim.Index)
	if err != nil {
		return err
	}
	for _, a := range seen(srcs) {
		if !slices.Contains(have, a) {
			ds.Link(shim.Name, "address", "", a.String())
		}
	}
	return nil
}

func peerText(p link.Peer) string {
	text := fmt.Sprintf("%s at %s", p.Addr, p.MAC)
	if p.Src.IsValid() {
		text += " from " + p.Src.String()
	}
	return text
}
