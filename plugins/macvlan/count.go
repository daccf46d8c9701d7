package main

import (
	"context"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

var _ bowline.Counter = (*driver)(nil)

// Count implements [bowline.Counter].
func (d *driver) Count(ctx context.Context, places []bowline.Place) ([]*bowline.Counts, error) {
	all, err := d.host.Everywhere(ctx, "macvlan")
	if err != nil {
		return nil, err
	}
	links := map[string]link.Elsewhere{}
	for _, l := range all {
		links[l.Alias] = l
	}
	counts := make([]*bowline.Counts, len(places))
	for i, p := range places {
		l, there := links[endpoint.Alias(p.Network, p.Endpoint.ID)]
		if !there {
			continue
		}
		counts[i] = &bowline.Counts{
			ReceivedBytes: l.ReceivedBytes, ReceivedPackets: l.ReceivedPackets, ReceivedDrops: l.ReceivedDrops,
			SentBytes: l.SentBytes, SentPackets: l.SentPackets, SentDrops: l.SentDrops,
		}
		if err := d.countInside(ctx, p, l.Name, counts[i]); err != nil {
			return nil, err
		}
	}
	return counts, nil
}

// countInside adds what only the sandbox can tell.
func (d *driver) countInside(ctx context.Context, p bowline.Place, name string, c *bowline.Counts) error {
	e := p.Endpoint
	if e.Sandbox == nil {
		return nil
	}
	in, done, err := d.in(e)
	if err != nil {
		return err
	}
	defer done()
	return d.inside(e, in, name).Count(ctx, p.Network, e, c)
}
