package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/undo"
)

// Repair implements [bowline.Inspector].
func (d *driver) Repair(ctx context.Context, places []bowline.Place) []bowline.Inspection {
	return d.inspect(ctx, places, (*survey).repair)
}

func (s *survey) repair(ctx context.Context, p bowline.Place, o options) bowline.Inspection {
	i := s.diff(ctx, p, o)
	switch {
	case i.Err != nil || len(i.Found) == 0:
	case p.Endpoint.ID == "":
		i.Err = s.repairNetwork(ctx, p.Network, o)
	default:
		i.Attachment, i.Err = s.repairEndpoint(ctx, p, o)
	}
	return i
}

// repairNetwork makes a parent of ours again. One of somebody else comes back
// when its owner brings it back, and then so do we.
func (s *survey) repairNetwork(ctx context.Context, n bowline.NetworkConfig, o options) error {
	if err := s.d.CreateNetwork(ctx, n); err != nil {
		return err
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	l, err := s.d.findParent(ctx, n, o)
	if err == nil && !l.Up {
		if !ourParent(s.links[l.Name]) {
			return bowline.Wrong(bowline.ErrDegraded, fmt.Sprintf("parent %s is down; set it up with: ip link set %s up", l.Name, l.Name))
		}
		err = s.d.host.Set(ctx, l.Name, link.Change{Up: true})
	}
	return err
}

// repairEndpoint makes right an endpoint that differs.
func (s *survey) repairEndpoint(ctx context.Context, p bowline.Place, o options) (bowline.Attachment, error) {
	n, e := p.Network, p.Endpoint
	l, there := s.of(n, e)
	if there && o.parent != "" && !o.linkInContainer {
		parent, err := s.d.findParent(ctx, n, o)
		if err != nil {
			return bowline.Attachment{}, err
		}
		if l.Parent != parent.Index { // on one that has another name now
			if err := s.d.host.DeleteElsewhere(ctx, l); err != nil {
				return bowline.Attachment{}, err
			}
			there = false
		}
	}
	if e.Sandbox == nil {
		return bowline.Attachment{}, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("network %q: endpoint %q: want its sandbox, which is gone: attach the container again", n.ID, e.ID))
	}
	if !there { // its namespace lives, so all of it can be made again
		a, err := s.d.CreateEndpoint(ctx, n, e)
		return a, errors.Join(err, s.look(ctx))
	}
	if e.IfName == "" {
		e.IfName = l.Name
	}
	if e.IfName != l.Name { // as it is up it cannot be renamed everywhere
		return bowline.Attachment{}, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("the container's link %s has another name, %s: attach the container again", e.IfName, l.Name))
	}
	return s.repairLink(ctx, n, o, e, l)
}

// repairLink makes right a link that is there, and what goes with it.
func (s *survey) repairLink(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec, l link.Elsewhere) (bowline.Attachment, error) {
	in, done, err := s.d.in(e)
	if err != nil {
		return bowline.Attachment{}, err
	}
	defer done()
	parent, err := s.d.parent(ctx, n, o, in)
	if err != nil {
		return bowline.Attachment{}, err
	}
	v, err := macvlan(n, o, e, parent)
	if err != nil {
		return bowline.Attachment{}, err
	}
	v.Name = l.Name
	if err := in.SetMacvlan(ctx, v); err != nil {
		return bowline.Attachment{}, err
	}
	if err := in.Set(ctx, l.Name, link.Change{MTU: cmp.Or(v.MTU, parent.MTU)}); err != nil {
		return bowline.Attachment{}, err
	}
	if err := s.d.inside(e, in, l.Name).Repair(ctx, n, e); err != nil {
		return bowline.Attachment{}, err
	}
	if err := s.repairHostAccess(ctx, n, o, e, parent, l); err != nil {
		return bowline.Attachment{}, err
	}
	now, err := in.Get(ctx, l.Name)
	return attachment(n, o, e, now), errors.Join(err, s.look(ctx))
}

// repairHostAccess makes right the way between the endpoint and the host.
func (s *survey) repairHostAccess(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec, parent link.Info, l link.Elsewhere) error {
	if !o.hostAccess || len(e.Addrs) == 0 {
		return nil
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	if err := s.d.admit(ctx, &u, n, o, e, parent, l.MAC); err != nil {
		return err
	}
	rules, err := s.firewall(ctx)
	if err != nil {
		return err
	}
	shim := shimName(n, parent.Name)
	if _, err := rules.RepairShim(ctx, shim); err != nil {
		return err
	}
	if _, err := rules.RepairShimPeer(ctx, peerOf(n, e, shim, l.MAC)); err != nil {
		return err
	}
	u.Commit()
	return nil
}
