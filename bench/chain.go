package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A contender is a side on its host, with what was measured at one level.
type contender struct {
	*host
	probes   []*attachment // attached and detached again and again
	present  []*attachment // stay
	add, del []time.Duration
}

// newContender makes the host of a side.
func newContender(o options, s side) (*contender, error) {
	h, err := newHost(o, s)
	if err != nil {
		return nil, err
	}
	c := &contender{host: h}
	if c.probes, err = attachments("probe", 2); err != nil {
		h.close()
		return nil, err
	}
	return c, nil
}

func (c *contender) close() {
	closeAll(c.probes)
	closeAll(c.present)
	c.host.close()
}

// best returns the fastest at ADD and at DEL.
func best(cs []*contender) (add, del *contender) {
	add, del = cs[0], cs[0]
	for _, c := range cs[1:] {
		if median(c.add) < median(add.add) {
			add = c
		}
		if median(c.del) < median(del.del) {
			del = c
		}
	}
	return add, del
}

// target is by how many times ours is to be faster at ADD and DEL with so many
// attachments present; 0 if nothing was promised.
func (n network) target(present int) (add, del float64) {
	switch {
	case n.apart, n.acd, n.host:
		return 0, 0
	case n.loop:
		return 1, 1
	case n.lan:
		return 1.8, 4
	case n.full:
		switch {
		case present >= 1000:
			return 10, 20
		case present >= 300:
			return 12, 20
		case present >= 100:
			return 12, 15
		}
		return 10, 15
	case n.port:
		return 8, 10
	case n.masq:
		return 4, 8
	}
	return 2, 4
}

// levels are how many attachments are present. Filling takes the reference
// minutes where its chain is long.
func (n network) levels(o options) []int {
	switch {
	case n.loop:
		return []int{0}
	case o.quick:
		return []int{0, 20}
	case n.full && o.long:
		return []int{0, 100, 300, 1000}
	case n.full:
		return []int{0, 100, 300}
	case n.port, n.apart:
		return []int{0, 100}
	}
	return []int{0, 100, 1000}
}

// chains measures ADD and DEL with none, some and many attachments present.
func chains(ctx context.Context, o options) error {
	all, err := rivals(o)
	if err != nil {
		return err
	}
	head("ADD and DEL, one at a time (ms, medians)", "chain", "present", "best reference for ADD / DEL", "its ADD / DEL", "bowline ADD / DEL", "times faster", "target")
	for _, n := range []network{
		{name: "plain", subnet: "10.8.0.0/16"},
		{name: "masq", subnet: "10.9.0.0/16", masq: true},
		{name: "apart", subnet: "10.13.0.0/16", masq: true, apart: true},
		{name: "port", subnet: "10.15.0.0/16", masq: true, port: true},
		{name: "full", subnet: "10.16.0.0/16", masq: true, port: true, full: true},
	} {
		rivals := all
		if !n.masq {
			rivals = all[:1] // the variants differ in how they masquerade
		}
		if err := chain(ctx, o, n, rivals, n.levels(o)); err != nil {
			return err
		}
	}
	return nil
}

// chain measures one network at each level. Variants of the reference that
// are neither the best at ADD nor at DEL drop out before the last level, where
// filling takes minutes.
func chain(ctx context.Context, o options, n network, rivals []side, levels []int) error {
	var cs []*contender
	defer func() {
		for _, c := range cs {
			c.close()
		}
	}()
	ours := ourSide(o)
	if n.loop {
		var err error
		if ours, err = loopbackSide(o); err != nil {
			return err
		}
	}
	for _, s := range append([]side{ours}, rivals...) {
		c, err := newContender(o, s)
		if err != nil {
			return err
		}
		cs = append(cs, c)
	}
	for i, level := range levels {
		for _, c := range cs {
			if err := c.fill(ctx, n, level); err != nil {
				return err
			}
		}
		if err := inTurns(ctx, n, cs, o.count(25, 5)); err != nil {
			return err
		}
		bestAdd, bestDel := report(n, level, cs)
		if i == len(levels)-2 {
			cs = dropOut(cs, bestAdd, bestDel)
		}
	}
	return nil
}

// report prints one row and returns the best rivals for ADD and for DEL.
func report(n network, level int, cs []*contender) (add, del *contender) {
	ours := cs[0]
	add, del = best(cs[1:])
	variants := "-"
	if n.masq {
		variants = add.side.short + " / " + del.side.short
	}
	wantAdd, wantDel := n.target(level)
	target := ""
	if wantAdd > 0 {
		target = fmt.Sprintf("%v× / %v×", wantAdd, wantDel)
	}
	row(n, level, variants,
		ms(median(add.add))+" / "+ms(median(del.del)),
		ms(median(ours.add))+" / "+ms(median(ours.del)),
		faster(median(add.add), median(ours.add), wantAdd)+" / "+faster(median(del.del), median(ours.del), wantDel),
		target)
	return add, del
}

func dropOut(cs []*contender, keep ...*contender) []*contender {
	left := cs[:1]
	for _, c := range cs[1:] {
		if c == keep[0] || c == keep[1] {
			left = append(left, c)
			continue
		}
		c.close()
	}
	return left
}

// fill attaches containers until level are present, two at a time.
func (c *contender) fill(ctx context.Context, n network, level int) error {
	more, err := attachments(fmt.Sprintf("p%d-", level), level-len(c.present))
	if err != nil {
		return err
	}
	c.present = append(c.present, more...)
	_, _, err = c.all(ctx, "ADD", n, more, 2)
	return err
}

// all runs a verb for each attachment, parallel at a time. It returns how long
// each took and how long all did, with what they left to other processes.
func (h *host) all(ctx context.Context, verb string, n network, as []*attachment, parallel int) (each []time.Duration, wall time.Duration, err error) {
	work := make(chan *attachment)
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for range parallel {
		wg.Go(func() {
			for a := range work {
				took, e := h.do(ctx, verb, n, a)
				mu.Lock()
				each = append(each, took)
				if err == nil {
					err = e
				}
				mu.Unlock()
			}
		})
	}
	for _, a := range as {
		work <- a
	}
	close(work)
	wg.Wait()
	h.settle(ctx)
	return each, time.Since(start), err
}

// inTurns measures rounds of ADD and DEL, each side once a round.
func inTurns(ctx context.Context, n network, cs []*contender, rounds int) error {
	for _, c := range cs {
		c.add, c.del = nil, nil
	}
	for i := range rounds + 1 {
		for _, c := range cs {
			a := c.probes[i%2]
			add, err := c.do(ctx, "ADD", n, a)
			if err != nil {
				return err
			}
			del, err := c.do(ctx, "DEL", n, a)
			if err != nil {
				return err
			}
			c.settle(ctx)
			if i > 0 { // the first warms up
				c.add, c.del = append(c.add, add), append(c.del, del)
			}
		}
	}
	return nil
}
