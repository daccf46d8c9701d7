package main

import (
	"context"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
)

// A survey is what there is, each part asked for once. It is for one goroutine.
type survey struct {
	d        *driver
	macvlans map[string]link.Elsewhere // by alias
	links    map[string]link.Seen      // of the host
	rules    *nft.Snapshot             // of the host, opened at first use
}

func (d *driver) survey(ctx context.Context) (*survey, error) {
	s := &survey{d: d}
	return s, s.look(ctx)
}

// look asks for all links again.
func (s *survey) look(ctx context.Context) error {
	all, err := s.d.host.Everywhere(ctx, "macvlan")
	if err != nil {
		return err
	}
	s.macvlans = make(map[string]link.Elsewhere, len(all))
	for _, l := range all {
		s.macvlans[l.Alias] = l
	}
	s.links, err = s.d.host.SeeAll(ctx)
	return err
}

func (s *survey) close() {
	if s.rules != nil {
		s.rules.Close()
	}
}

// of returns the endpoint's link, wherever it is.
func (s *survey) of(n bowline.NetworkConfig, e bowline.EndpointSpec) (link.Elsewhere, bool) {
	l, there := s.macvlans[endpoint.Alias(n, e.ID)]
	return l, there
}

// firewall is that of the host.
func (s *survey) firewall(ctx context.Context) (*nft.Snapshot, error) {
	if s.rules == nil {
		var err error
		if s.rules, err = s.d.rules.Snapshot(ctx); err != nil {
			return nil, err
		}
	}
	return s.rules, nil
}
