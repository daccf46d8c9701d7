package main

import (
	"cmp"
	"context"
	"fmt"
	"net"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

// Repair implements [bowline.Inspector].
func (d *driver) Repair(ctx context.Context, places []bowline.Place) []bowline.Inspection {
	return d.inspect(ctx, places, (*survey).repair)
}

func (s *survey) repair(ctx context.Context, p bowline.Place, o options) bowline.Inspection {
	look := p
	look.Endpoint.Sandbox = nil // what is in there is the face's
	i := s.diff(ctx, look, o)
	if i.Attachment.Link != "" {
		i.Attachment.Link = innerName(p.Network, p.Endpoint)
	}
	switch {
	case i.Err != nil || len(i.Found) == 0:
	case p.Endpoint.ID == "":
		i.Err = s.repairNetwork(ctx, p.Network, o)
	default:
		i.Attachment, i.Err = s.repairEndpoint(ctx, p, o)
	}
	return i
}

// repairNetwork makes the network again, which leaves alone what is there, and
// then sees to what CreateNetwork takes for granted.
func (s *survey) repairNetwork(ctx context.Context, n bowline.NetworkConfig, o options) error {
	defer s.changed()
	if err := s.d.CreateNetwork(ctx, n); err != nil {
		return err
	}
	s.changed()
	if err := s.repairGateways(ctx, n, o); err != nil || o.firewall == "none" {
		return err
	}
	rules, err := s.firewall(ctx)
	if err != nil {
		return err
	}
	rn := ruleNetwork(n, o)
	if _, err := rules.RepairNetwork(ctx, rn); err != nil {
		return err
	}
	for _, l := range o.roomLinks(bridgeName(n, o), rn.Bridge) {
		if _, err := rules.RepairRoom(ctx, o.room(l)); err != nil {
			return err
		}
	}
	return nil
}

// repairGateways brings up the bridge's link in the network's VLAN, and adds
// the routes that somebody deleted.
func (s *survey) repairGateways(ctx context.Context, n bowline.NetworkConfig, o options) error {
	if !o.isGateway {
		return nil
	}
	name := gatewayLinkName(bridgeName(n, o), o)
	for _, l := range []string{name, link.VLANPortName(name)} {
		seen, there, err := s.link(ctx, l)
		if err != nil {
			return err
		}
		if there && !seen.Up {
			if err := s.d.host.Set(ctx, l, link.Change{Up: true}); err != nil {
				return err
			}
		}
	}
	dev, there, err := s.link(ctx, name)
	if err != nil || !there {
		return err
	}
	for _, p := range o.gatewayPools(n) {
		// The address can have gone with the link's state.
		if _, err := s.d.host.EnsureAddr(ctx, dev.Index, link.Addr{Prefix: gatewayPrefix(p)}); err != nil {
			return err
		}
		var missing endpoint.Differences
		if err := s.diffConnected(ctx, &missing, dev, p); err != nil || len(missing) == 0 {
			if err != nil {
				return err
			}
			continue
		}
		if err := s.d.host.EnsureConnected(ctx, dev.Index, gatewayPrefix(p)); err != nil {
			return err
		}
	}
	return nil
}

// repairEndpoint makes right an endpoint that differs.
func (s *survey) repairEndpoint(ctx context.Context, p bowline.Place, o options) (bowline.Attachment, error) {
	n, e := p.Network, p.Endpoint
	mac, err := endpoint.MAC(n, e)
	if err != nil {
		return bowline.Attachment{}, err
	}
	br, err := s.d.host.Get(ctx, bridgeName(n, o))
	if err != nil {
		return bowline.Attachment{}, err
	}
	v := veth(n, o, e, br, mac)
	if v.Port, err = s.d.portOf(ctx, n, o, e); err != nil {
		return bowline.Attachment{}, err
	}
	defer s.changed()
	outer, there, err := s.link(ctx, v.Name)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if !there {
		if e.Sandbox == nil {
			return bowline.Attachment{}, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("link %s is gone, and with it the container's: attach the container again", v.Name))
		}
		// Its namespace lives, so all of it can be made again.
		return s.d.CreateEndpoint(ctx, n, e)
	}
	if outer.Kind != "veth" {
		return bowline.Attachment{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("link %s is in the way: it is not a veth", v.Name))
	}
	if err := s.repairPort(ctx, o, outer, v); err != nil {
		return bowline.Attachment{}, err
	}
	if v.MTU < br.MTU { // as in CreateEndpoint
		if err := s.d.host.Set(ctx, br.Name, link.Change{MTU: br.MTU}); err != nil {
			return bowline.Attachment{}, err
		}
	}
	if limits, err := s.d.diffLimits(ctx, n, e); err != nil {
		return bowline.Attachment{}, err
	} else if len(limits) > 0 {
		if err := s.d.Shape(ctx, n, e); err != nil {
			return bowline.Attachment{}, err
		}
	}
	if o.firewall == "nft" {
		rules, err := s.firewall(ctx)
		if err != nil {
			return bowline.Attachment{}, err
		}
		rn, re := ruleNetwork(n, o), ruleEndpoint(n, o, e, mac)
		if _, err := rules.RepairEndpoint(ctx, rn, re); err != nil {
			return bowline.Attachment{}, err
		}
		if err := s.d.settle(ctx, rn, re.Ports); err != nil {
			return bowline.Attachment{}, err
		}
	}
	return attachment(n, o, e, br, v), nil
}

// repairPort makes the host's end the port that it was.
func (s *survey) repairPort(ctx context.Context, o options, outer link.Seen, v link.Veth) error {
	c := link.Change{Up: !outer.Up}
	if outer.Master != v.Master {
		c.Master = v.Master
	}
	if c.Master != 0 || outer.Port != *v.Port {
		c.Port = v.Port
	}
	if c.Up || c.Port != nil {
		if err := s.d.host.Set(ctx, v.Name, c); err != nil {
			return err
		}
	}
	if !o.vlans() {
		return nil
	}
	have, err := s.d.host.PortTags(ctx)
	if err != nil {
		return err
	}
	return s.d.host.ResetPortVLANs(ctx, v.Name, have[outer.Index], portVLANs(o))
}

// veth is the endpoint's pair of links.
func veth(n bowline.NetworkConfig, o options, e bowline.EndpointSpec, br link.Info, mac net.HardwareAddr) link.Veth {
	own := endpoint.OptionsOf(e)
	return link.Veth{
		Name: outerName(n, e.ID), MAC: bowline.MAC("outer", n.ID, e.ID), Alias: endpoint.Alias(n, e.ID),
		MTU: cmp.Or(own.MTU, o.mtu, br.MTU), Master: br.Index,
		Port: &link.Port{Hairpin: o.hairpin, Isolated: o.portIsolation || !o.icc},
		Peer: innerName(n, e), PeerMAC: mac, PeerNS: e.Sandbox, Tuning: o.tuning.With(own.Tuning).Link(), Limits: limits(n, e),
	}
}
