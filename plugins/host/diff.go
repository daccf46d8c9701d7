package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/nft"
)

var (
	_ bowline.Inspector = (*driver)(nil)
	_ bowline.Watcher   = (*driver)(nil)
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
	if !there && d.isUserspace(o.want) {
		return bowline.Inspection{Attachment: bowline.Attachment{Addrs: p.Endpoint.Addrs}}
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
	case l.Docker && at.where == atHome: // dockerd has not moved it yet, or has moved it out already
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
		var more []bowline.Difference
		more, i.Err = d.insideOf(at).Diff(ctx, p.Network, p.Endpoint)
		ds = append(ds, more...)
	}
	i.Found = ds
	return i
}

// CheckEndpoint implements [bowline.Driver].
func (d *driver) CheckEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	return endpoint.Check(ctx, d, n, e)
}

// Repair implements [bowline.Inspector]: an endpoint that differs is made again.
func (d *driver) Repair(ctx context.Context, places []bowline.Place) []bowline.Inspection {
	all := make([]bowline.Inspection, len(places))
	for i, p := range places {
		if p.Endpoint.ID == "" {
			continue
		}
		if all[i] = d.diff(ctx, p); all[i].Err == nil && len(all[i].Found) > 0 {
			all[i].Attachment, all[i].Err = d.repair(ctx, p, all[i].Attachment)
		}
	}
	return all
}

// repair makes right an endpoint that differs and has the attachment a.
func (d *driver) repair(ctx context.Context, p bowline.Place, a bowline.Attachment) (bowline.Attachment, error) {
	n, e := p.Network, p.Endpoint
	if e.Sandbox == nil {
		return a, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("the sandbox of %s is not known", e.ID))
	}
	l, there, err := d.loans.get(ctx, n.ID, e.ID)
	if err != nil {
		return a, err
	}
	if there && l.Docker {
		at, err := d.find(ctx, l)
		at.close()
		if err != nil || at.where != away {
			return a, errors.Join(err, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("the NIC %s is gone, and dockerd is who gives it to containers", l.Name)))
		}
	}
	bare := e // what is half there of the rest is brought back after it
	bare.Rates, bare.Policy = bowline.Rates{}, nil
	if a, err = d.CreateEndpoint(ctx, n, bare); err != nil {
		return a, err
	}
	return a, d.repairInside(ctx, n, e)
}

// Watch implements [bowline.Watcher].
func (d *driver) Watch(ctx context.Context, ready func(), changed func(bowline.Event)) error {
	links, err := d.host.Monitor()
	if err != nil {
		return err
	}
	rules := nft.Open(d.ns)
	defer rules.Close()
	seen, err := rules.MonitorAll()
	if err != nil {
		links.Close()
		return err
	}
	ready()
	return endpoint.Watch(ctx, links, seen, changed)
}
