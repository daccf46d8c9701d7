package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// macvlans measures containers on the host's uplink: how long they take to
// attach, and what the way between two of them costs. The loopback, which every
// container has, is measured beside them.
func macvlans(ctx context.Context, o options) error {
	head("macvlan: ADD and DEL, one at a time (ms, medians)", "chain", "present", "best reference for ADD / DEL", "its ADD / DEL", "bowline ADD / DEL", "times faster", "target")
	reference := side{name: "reference macvlan", short: "macvlan", bin: o.reference}
	for _, n := range []network{
		{name: "lan", subnet: "10.20.0.0/16", lan: true},
		{name: "hosted", subnet: "10.21.0.0/16", lan: true, host: true},
		{name: "asked", subnet: "10.22.0.0/16", lan: true, acd: true},
	} {
		if err := chain(ctx, o, n, []side{reference}, n.levels(o)); err != nil {
			return err
		}
	}
	if err := chain(ctx, o, network{name: "loop", loop: true}, []side{{name: "reference loopback", short: "loopback", bin: o.reference}}, []int{0}); err != nil {
		return err
	}
	return lanPath(ctx, o, reference)
}

// loopbackSide is ours where engines look for the loopback plugin: bowline-host by
// that name.
func loopbackSide(o options) (side, error) {
	s := ourSide(o)
	s.bin = filepath.Join(o.dir, "loopback")
	if err := os.MkdirAll(s.bin, 0o755); err != nil {
		return s, err
	}
	return s, os.Symlink(filepath.Join(o.ours, "bowline-host"), filepath.Join(s.bin, "loopback"))
}

// A measure is one number of a lane.
type measure struct {
	name string
	take func(context.Context, *lane) (float64, error)
}

// lanPath compares the ways between two sandboxes of one host.
func lanPath(ctx context.Context, o options, reference side) error {
	seconds := o.count(2, 1)
	flood := func(streams int) func(context.Context, *lane) (float64, error) {
		return func(ctx context.Context, l *lane) (float64, error) {
			return floods(ctx, l, seconds, streams)
		}
	}
	measures := []measure{
		{"transactions /s", func(ctx context.Context, l *lane) (float64, error) { return transactions(ctx, bare, l) }},
		{"1 stream Gbit/s", flood(1)}, {"8 streams Gbit/s", flood(8)},
	}
	raw, err := rawLane()
	if err != nil {
		return err
	}
	defer raw.close()
	lanes := []*lane{raw}
	for _, s := range []side{ourSide(o), reference} {
		h, err := newHost(o, s)
		if err != nil {
			return err
		}
		defer h.close()
		l, err := between(ctx, h, network{name: "path", subnet: "10.23.0.0/24", lan: true})
		if err != nil {
			return err
		}
		defer l.close()
		lanes = append(lanes, l)
	}
	lanes[1].name, lanes[1].target = "bowline-macvlan", 0.95
	for range o.count(9, 2) {
		for _, m := range measures {
			for _, l := range lanes {
				v, err := m.take(ctx, l)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", l.name, m.name, err)
				}
				l.rate[m.name] = append(l.rate[m.name], v)
			}
		}
	}
	reportLanes(lanes, measures)
	return nil
}

// reportLanes prints a row for each lane; the first is what they are compared
// with.
func reportLanes(lanes []*lane, measures []measure) {
	head("macvlan: between two containers of one host; transactions with both ends on one core", "path", "transactions /s", "RTT µs", "× raw veth", "1 stream Gbit/s", "× raw veth", "8 streams Gbit/s", "× raw veth", "target")
	for _, l := range lanes {
		cells := []any{l.name}
		for i, m := range measures {
			v, base := middle(l.rate[m.name]), middle(lanes[0].rate[m.name])
			if i == 0 {
				cells = append(cells, fmt.Sprintf("%.0f", v), fmt.Sprintf("%.2f", 1e6/v), times(v, base, l.target))
			} else {
				cells = append(cells, fmt.Sprintf("%.1f", v), times(v, base, l.target))
			}
		}
		target := ""
		if l.target > 0 {
			target = fmt.Sprintf("≥ %.2f×", l.target)
		}
		row(append(cells, target)...)
	}
}

// floods returns how many Gbit/s several streams at once bring.
func floods(ctx context.Context, l *lane, seconds, streams int) (float64, error) {
	rates, errs := make([]float64, streams), make([]error, streams)
	done := make(chan int)
	for i := range streams {
		go func() {
			rates[i], errs[i] = floodBetween(ctx, l.a, l.b, l.addr, port+1+i, seconds)
			done <- i
		}()
	}
	for range streams {
		<-done
	}
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return 0, errs[i]
	}
	var sum float64
	for _, r := range rates {
		sum += r
	}
	return sum * 8 / 1e9, nil
}
