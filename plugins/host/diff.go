package main

import (
	"context"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
)

var (
	_ bowline.Inspector = (*driver)(nil)
	_ bowline.Watcher   = (*driver)(nil)
	_ bowline.Settler   = (*driver)(nil)
)

// Diff implements [bowline.Inspector]. Of a network there is nothing that could
// differ.
func (d *driver) Diff(ctx context.Context, places []bowline.Place) []bowline.Inspection {
	all := make([]bowline.Inspection, len(places))
	for i, p := range places {
		if p.Endpoint.ID != "" {
			all[i] = d.diff(ctx, p)
		}
	}
	return all
}

// diff compares where the NIC of an endpoint is, and what it is there.
func (d *driver) diff(ctx context.Context, p bowline.Place) (i bowline.Inspection) {
	o, err := parseEndpoint(p.Network, p.Endpoint)
	if err != nil {
		return bowline.Inspection{Err: err}
	}
	l, there, err := d.loans.get(ctx, p.Network.ID, p.Endpoint.ID)
	if err != nil {
		return bowline.Inspection{Err: err}
	}
	var ds endpoint.Differences
	if !there {
		ds = append(ds, bowline.Difference{Place: "sandbox", Key: "link " + p.Endpoint.IfName, Want: "the NIC of option " + o.want.String()})
		return bowline.Inspection{Found: ds}
	}
	i.Attachment = l.attachment(p.Network, o, p.Endpoint)
	at, err := d.find(ctx, l)
	if err != nil {
		i.Err = err
		return i
	}
	defer at.close()
	want := "the NIC " + l.Name + " of the host"
	switch {
	case l.Docker && at.where == atHome && p.Endpoint.Sandbox == nil: // dockerd moves it when it likes
	case at.where != away:
		have := ""
		if at.where == atHome {
			have = "none: it is in the host as " + at.nic.Name
		}
		ds = append(ds, bowline.Difference{Place: "sandbox", Key: "link " + p.Endpoint.IfName, Have: have, Want: want})
	default:
		name := "sandbox's " + at.nic.Name
		if p.Endpoint.IfName != "" && !l.Docker {
			ds.Link(name, "name", at.nic.Name, p.Endpoint.IfName)
		}
		ds.Link(name, "MAC", at.nic.MAC.String(), i.Attachment.MAC.String())
		if o.mtu != 0 {
			ds.Link(name, "MTU", fmt.Sprint(at.nic.MTU), fmt.Sprint(o.mtu))
		}
	}
	i.Found = ds
	return i
}

// CheckEndpoint implements [bowline.Driver].
func (d *driver) CheckEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	i := d.diff(ctx, bowline.Place{Network: n, Endpoint: e})
	if i.Err != nil {
		return i.Err
	}
	return bowline.FirstDifference(fmt.Sprintf("network %q, endpoint %q", n.ID, e.ID), i.Found)
}

// Repair implements [bowline.Inspector]: an endpoint that differs is made again.
func (d *driver) Repair(ctx context.Context, places []bowline.Place) []bowline.Inspection {
	all := make([]bowline.Inspection, len(places))
	for i, p := range places {
		if p.Endpoint.ID == "" {
			continue
		}
		if all[i] = d.diff(ctx, p); all[i].Err != nil || len(all[i].Found) == 0 {
			continue
		}
		if p.Endpoint.Sandbox == nil {
			all[i].Err = bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("the sandbox of %s is not known", p.Endpoint.ID))
			continue
		}
		all[i].Attachment, all[i].Err = d.CreateEndpoint(ctx, p.Network, p.Endpoint)
	}
	return all
}

// Watch implements [bowline.Watcher].
func (d *driver) Watch(ctx context.Context, ready func(), changed func(bowline.Event)) error {
	m, err := d.host.Monitor()
	if err != nil {
		return err
	}
	defer m.Close()
	ready()
	return m.Run(ctx, changed)
}

// Settle implements [bowline.Settler]: dockerd has moved the NIC, so now its
// namespace can be pinned.
func (d *driver) Settle(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	unlock, err := d.loans.lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, there, err := d.loans.get(ctx, n.ID, e.ID)
	if err != nil || !there {
		return err
	}
	return d.settle(ctx, l)
}

// settle pins the namespace that dockerd has moved the NIC to, unless it has not
// yet or that was done.
func (d *driver) settle(ctx context.Context, l loan) error {
	if l = d.joined(ctx, l); !l.Docker || l.Pin != "" || l.Sandbox == "" {
		return nil
	}
	at, err := d.find(ctx, l)
	if err != nil {
		return err
	}
	defer at.close()
	if at.where != away {
		return nil
	}
	l.NetnsIno = at.ino
	if l.Pin, err = d.pinFor(ctx, l); err != nil {
		return err
	}
	if err := d.loans.put(ctx, l); err != nil || l.Pin == "" {
		return err
	}
	return d.pin(ctx, at.ns, l.Pin)
}
