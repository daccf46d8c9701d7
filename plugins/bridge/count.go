package main

import (
	"context"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/nft"
)

var _ bowline.Counter = (*driver)(nil)

// Count implements [bowline.Counter]. What the host's end of a veth received,
// the endpoint sent.
func (d *driver) Count(ctx context.Context, places []bowline.Place) ([]*bowline.Counts, error) {
	links, err := d.host.Counters(ctx)
	if err != nil {
		return nil, err
	}
	limited := func(p bowline.Place) bool { return p.Endpoint.Rates != (bowline.Rates{}) }
	var drops map[string]uint64
	if slices.ContainsFunc(places, limited) {
		if drops, err = d.host.QueueDrops(ctx); err != nil {
			return nil, err
		}
	}
	var hits map[string][]nft.Hit // by host's end
	if slices.ContainsFunc(places, func(p bowline.Place) bool { return len(p.Endpoint.Policy) > 0 }) {
		if hits, err = d.rules.PolicyHits(ctx); err != nil {
			return nil, err
		}
	}
	counts := make([]*bowline.Counts, len(places))
	for i, p := range places {
		out, in := outerName(p.Network, p.Endpoint.ID), ifbName(p.Network, p.Endpoint.ID) // where its limits are
		if c, ok := links[out]; ok {
			counts[i] = &bowline.Counts{
				ReceivedBytes: c.SentBytes, ReceivedPackets: c.SentPackets, ReceivedDrops: c.SentDrops + drops[out],
				SentBytes: c.ReceivedBytes, SentPackets: c.ReceivedPackets, SentDrops: c.ReceivedDrops + drops[in],
				Policy: endpoint.PolicyCounts(p.Endpoint, hits[out]),
			}
		}
	}
	return counts, nil
}
