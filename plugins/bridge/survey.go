package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
)

// A survey is what the host has, each part asked for once: comparing a thousand
// endpoints takes as many questions as comparing one. It is for one goroutine.
type survey struct {
	d     *driver
	links map[string]link.Seen // nil: ask for each
	tags  map[int]map[int]link.TagState
	rules *nft.Snapshot // opened at first use
}

// few is up to how many places their links are asked for one by one.
const few = 8

func (d *driver) survey(ctx context.Context, places int) (*survey, error) {
	s := &survey{d: d}
	if places <= few {
		return s, nil
	}
	var err error
	s.links, err = d.host.SeeAll(ctx)
	return s, err
}

func (s *survey) close() {
	if s.rules != nil {
		s.rules.Close()
	}
}

// changed makes the survey forget what it knows of links.
func (s *survey) changed() { s.links, s.tags = nil, nil }

// link returns the link of that name and whether there is one.
func (s *survey) link(ctx context.Context, name string) (link.Seen, bool, error) {
	if s.links != nil {
		l, ok := s.links[name]
		return l, ok, nil
	}
	l, err := s.d.host.See(ctx, name)
	if errors.Is(err, bowline.ErrUnknown) {
		return link.Seen{}, false, nil
	}
	return l, err == nil, err
}

// nameOf returns the name of the link with that index, "" for 0.
func (s *survey) nameOf(ctx context.Context, index int) (string, error) {
	if index == 0 {
		return "", nil
	}
	all := s.links
	if all == nil {
		var err error
		if all, err = s.d.host.SeeAll(ctx); err != nil {
			return "", err
		}
	}
	for name, l := range all {
		if l.Index == index {
			return name, nil
		}
	}
	return fmt.Sprintf("link %d", index), nil
}

func (s *survey) portTags(ctx context.Context, index int) (map[int]link.TagState, error) {
	if s.tags == nil {
		var err error
		if s.tags, err = s.d.host.PortTags(ctx); err != nil {
			return nil, err
		}
	}
	return s.tags[index], nil
}

func (s *survey) firewall(ctx context.Context) (*nft.Snapshot, error) {
	if s.rules == nil {
		var err error
		if s.rules, err = s.d.rules.Snapshot(ctx); err != nil {
			return nil, err
		}
	}
	return s.rules, nil
}
