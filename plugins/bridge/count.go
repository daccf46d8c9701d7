package main

import (
	"context"

	"github.com/bowline-net/bowline"
)

var _ bowline.Counter = (*driver)(nil)

// Count implements [bowline.Counter]. What the host's end of a veth received,
// the endpoint sent.
func (d *driver) Count(ctx context.Context, places []bowline.Place) ([]*bowline.Counts, error) {
	links, err := d.host.Counters(ctx)
	if err != nil {
		return nil, err
	}
	counts := make([]*bowline.Counts, len(places))
	for i, p := range places {
		if c, ok := links[outerName(p.Network, p.Endpoint.ID)]; ok {
			counts[i] = &bowline.Counts{
				ReceivedBytes: c.SentBytes, ReceivedPackets: c.SentPackets, ReceivedDrops: c.SentDrops,
				SentBytes: c.ReceivedBytes, SentPackets: c.ReceivedPackets, SentDrops: c.ReceivedDrops,
			}
		}
	}
	return counts, nil
}
