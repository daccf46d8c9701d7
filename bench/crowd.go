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

// crowd measures many ADD and DEL at a time on one network with ipMasq.
func crowd(ctx context.Context, o options) error {
	all, err := rivals(o)
	if err != nil {
		return err
	}
	n := network{"crowd", "10.10.0.0/16", true}
	head("ADD and DEL in parallel, bridge + ipam + ipMasq (operations per second, p99 ms)", "parallel", "best reference ADD", "bowline ADD", "times", "target", "best reference DEL", "bowline DEL", "times", "target")
	for _, parallel := range []int{1, 4, 16} {
		if o.quick && parallel == 4 {
			continue
		}
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
		var wantAdd, wantDel float64
		targets := [2]string{"", ""}
		if parallel == 16 {
			wantAdd, wantDel, targets = 15, 6, [2]string{"15×, p99 < 120", "6×"}
		}
		row(parallel, add[0], add[1], times(add[1].perSecond(), add[0].perSecond(), wantAdd), targets[0],
			del[0], del[1], times(del[1].perSecond(), del[0].perSecond(), wantDel), targets[1])
	}
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
