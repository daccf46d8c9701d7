package main

import (
	"context"
	"fmt"
	"time"
)

// A score is what one side did at one degree of parallelism.
type score struct {
	ops  int
	wall time.Duration
	each []time.Duration
}

func (s score) perSecond() float64 { return float64(s.ops) / s.wall.Seconds() }

func (s score) String() string {
	return fmt.Sprintf("%.0f/s, %s", s.perSecond(), ms(quantile(s.each, 0.99)))
}

// crowd measures many ADD and DEL at a time on one network.
func crowd(ctx context.Context, o options) error {
	all, err := rivals(o)
	if err != nil {
		return err
	}
	head("ADD and DEL in parallel (operations per second, p99 ms)", "chain", "parallel", "best reference ADD", "bowline ADD", "times", "best reference DEL", "bowline DEL", "times")
	for _, n := range []network{
		{name: "crowd", subnet: "10.10.0.0/16", masq: true},
		{name: "apart", subnet: "10.14.0.0/16", masq: true, apart: true},
		{name: "full", subnet: "10.17.0.0/16", masq: true, port: true, full: true},
	} {
		best, err := fastest(ctx, o, n, all)
		if err != nil {
			return err
		}
		for _, parallel := range []int{1, 4, 16} {
			if parallel != 4 || !o.quick {
				if err := compete(ctx, o, n, best, parallel); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// fastest returns the rivals that are fastest at ADD and at DEL, one at a time.
func fastest(ctx context.Context, o options, n network, rivals []side) ([]side, error) {
	var cs []*contender
	for _, s := range rivals {
		c, err := newContender(o, s)
		if err != nil {
			return nil, err
		}
		defer c.close()
		cs = append(cs, c)
	}
	if err := inTurns(ctx, n, cs, 3); err != nil {
		return nil, err
	}
	add, del := best(cs)
	if add == del {
		return []side{add.side}, nil
	}
	return []side{add.side, del.side}, nil
}

// compete prints the row of one network and degree.
func compete(ctx context.Context, o options, n network, all []side, parallel int) error {
	var add, del [2]score // best reference, ours
	for _, s := range append([]side{ourSide(o)}, all...) {
		a, d, err := rush(ctx, o, s, n, parallel)
		if err != nil {
			return err
		}
		i := 0
		if s.ours {
			i = 1
		}
		if add[i].ops == 0 || a.perSecond() > add[i].perSecond() {
			add[i] = a
		}
		if del[i].ops == 0 || d.perSecond() > del[i].perSecond() {
			del[i] = d
		}
	}
	row(n, parallel, add[0], add[1], times(add[1].perSecond(), add[0].perSecond(), 0),
		del[0], del[1], times(del[1].perSecond(), del[0].perSecond(), 0))
	return nil
}

// rush attaches and detaches 64 containers, twice, on a host of its own.
func rush(ctx context.Context, o options, s side, n network, parallel int) (add, del score, err error) {
	h, err := newHost(o, s)
	if err != nil {
		return add, del, err
	}
	defer h.close()
	as, err := attachments("c", o.count(64, 16))
	if err != nil {
		return add, del, err
	}
	defer closeAll(as)
	// What all containers share is made by the first, outside the count; two
	// at once are more than the reference's firewall plugin bears.
	for _, verb := range []string{"ADD", "DEL"} {
		if _, _, err := h.all(ctx, verb, n, as[:1], 1); err != nil {
			return add, del, err
		}
	}
	for range o.count(2, 1) {
		for _, v := range []struct {
			verb string
			s    *score
		}{{"ADD", &add}, {"DEL", &del}} {
			each, wall, err := h.all(ctx, v.verb, n, as, parallel)
			if err != nil {
				return add, del, err
			}
			v.s.ops += len(as)
			v.s.wall += wall
			v.s.each = append(v.s.each, each...)
		}
	}
	return add, del, nil
}
