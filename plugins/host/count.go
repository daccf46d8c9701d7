package main

import (
	"context"

	"github.com/bowline-net/bowline"
)

var _ bowline.Counter = (*driver)(nil)

// Count implements [bowline.Counter]. A NIC counts from when the machine booted;
// what it had counted before the container got it is left out.
func (d *driver) Count(ctx context.Context, places []bowline.Place) ([]*bowline.Counts, error) {
	counts := make([]*bowline.Counts, len(places))
	for i, p := range places {
		l, there, err := d.loans.get(ctx, p.Network.ID, p.Endpoint.ID)
		if err != nil || !there {
			if err != nil {
				return nil, err
			}
			continue
		}
		at, err := d.find(ctx, l)
		if err != nil || at.where != away {
			at.close()
			continue
		}
		links, err := at.in.Counters(ctx)
		at.close()
		if err != nil {
			return nil, err
		}
		c, was := links[at.nic.Name], l.Counters
		counts[i] = &bowline.Counts{
			ReceivedBytes: since(c.ReceivedBytes, was.ReceivedBytes), ReceivedPackets: since(c.ReceivedPackets, was.ReceivedPackets), ReceivedDrops: since(c.ReceivedDrops, was.ReceivedDrops),
			SentBytes: since(c.SentBytes, was.SentBytes), SentPackets: since(c.SentPackets, was.SentPackets), SentDrops: since(c.SentDrops, was.SentDrops),
		}
	}
	return counts, nil
}

// since is what was counted since it was that; a driver may have begun anew.
func since(now, was uint64) uint64 {
	if now < was {
		return now
	}
	return now - was
}
