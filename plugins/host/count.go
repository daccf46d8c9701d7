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
		if counts[i], err = d.count(ctx, p, l, at); err != nil {
			at.close()
			return nil, err
		}
		at.close()
	}
	return counts, nil
}

// count counts at one place, what its limits dropped and how often its policy was
// met with it.
func (d *driver) count(ctx context.Context, p bowline.Place, l loan, at found) (*bowline.Counts, error) {
	links, err := at.in.Counters(ctx)
	if err != nil {
		return nil, err
	}
	now, was := links[at.nic.Name], l.Counters
	c := &bowline.Counts{
		ReceivedBytes: since(now.ReceivedBytes, was.ReceivedBytes), ReceivedPackets: since(now.ReceivedPackets, was.ReceivedPackets), ReceivedDrops: since(now.ReceivedDrops, was.ReceivedDrops),
		SentBytes: since(now.SentBytes, was.SentBytes), SentPackets: since(now.SentPackets, was.SentPackets), SentDrops: since(now.SentDrops, was.SentDrops),
	}
	return c, d.insideOf(at).Count(ctx, p.Network, p.Endpoint, c)
}

// since is what was counted since it was that; a driver may have begun anew.
func since(now, was uint64) uint64 {
	if now < was {
		return now
	}
	return now - was
}
