package main

import (
	"context"
	"maps"
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
	s, err := d.survey(ctx, len(places))
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
	if i.Found, i.Err = s.diffEndpoint(ctx, p.Network, o, p.Endpoint); i.Err != nil {
		return i
	}
	br, _, err := s.link(ctx, bridgeName(p.Network, o))
	if err != nil {
		i.Err = err
		return i
	}
	i.Attachment, i.Err = s.attachment(p, o, br.Info)
	return i
}

// attachment is what CreateEndpoint returns, for an endpoint that is there.
func (s *survey) attachment(p bowline.Place, o options, br link.Info) (bowline.Attachment, error) {
	mac, err := endpoint.MAC(p.Network, p.Endpoint)
	if err != nil {
		return bowline.Attachment{}, err
	}
	return attachment(p.Network, o, p.Endpoint, br, veth(p.Network, o, p.Endpoint, br, mac)), nil
}

// diffEndpoint compares what the endpoint has of its own on the host.
func (s *survey) diffEndpoint(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) ([]bowline.Difference, error) {
	var ds endpoint.Differences
	err := s.diffPort(ctx, &ds, n, o, e)
	if err != nil || o.firewall == "none" {
		return ds, err
	}
	mac, err := endpoint.MAC(n, e)
	if err != nil {
		return ds, err
	}
	rules, err := s.firewall(ctx)
	if err != nil {
		return ds, err
	}
	if err := s.diffLoopback(ctx, &ds, n, o, e); err != nil {
		return ds, err
	}
	more, err := rules.DiffEndpoint(ctx, ruleNetwork(n, o), ruleEndpoint(n, o, e, mac))
	return append(ds, more...), err
}

// diffPort compares the endpoint's link in the host.
func (s *survey) diffPort(ctx context.Context, ds *endpoint.Differences, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) error {
	name, bridge := outerName(n, e.ID), bridgeName(n, o)
	l, there, err := s.link(ctx, name)
	if err != nil {
		return err
	}
	if !there {
		ds.Gone(name, "veth")
		return nil
	}
	ds.Link(name, "kind", l.Kind, "veth")
	ds.Link(name, "state", endpoint.UpOrDown(l.Up), "up")
	br, there, err := s.link(ctx, bridge)
	if err != nil {
		return err
	}
	if !there || l.Master != br.Index {
		master, err := s.nameOf(ctx, l.Master)
		if err != nil {
			return err
		}
		ds.Link(name, "master", master, bridge)
		return nil
	}
	port, err := s.d.portOf(ctx, n, o, e)
	if err != nil {
		return err
	}
	if len(e.Ports) == 0 || port.Hairpin { // else it may have been needed when they were published
		ds.Link(name, "hairpin", strconv.FormatBool(l.Hairpin), strconv.FormatBool(port.Hairpin))
	}
	ds.Link(name, "isolated", strconv.FormatBool(l.Isolated), strconv.FormatBool(o.portIsolation || !o.icc))
	if o.vlans() {
		have, err := s.portTags(ctx, l.Index)
		if err != nil {
			return err
		}
		if want := link.Tags(portVLANs(o)); !maps.Equal(have, want) {
			ds.Link(name, "VLANs", link.TagText(have), link.TagText(want))
		}
	}
	limits, err := s.d.diffLimits(ctx, n, e)
	*ds = append(*ds, limits...)
	return err
}
