package main

import (
	"context"
	"fmt"
	"strconv"
)

// A dockerLane is a way between two containers of Docker, with bridge netfilter
// on, as dockerd leaves it, or off.
type dockerLane struct {
	*lane
	engine   *engine // nil: none
	filtered bool
}

// dockerPath measures transactions between containers of Docker, as packetPath
// does between sandboxes.
func dockerPath(ctx context.Context, o options, e engines) error {
	base, err := rawLane()
	if err != nil {
		return err
	}
	defer base.close()
	lanes := []dockerLane{{lane: base}}
	for _, r := range []*rival{e.builtIn(), e.user(), e.bowline()} {
		l, err := r.lane(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		defer l.close()
		off := *l
		off.name, off.rate = l.name+", bridge netfilter off", map[string][]float64{}
		lanes = append(lanes, dockerLane{l, r.engine, true}, dockerLane{&off, r.engine, false})
	}
	for range o.count(9, 2) {
		for _, kind := range []string{bare, golang} {
			for _, l := range lanes {
				if l.engine != nil {
					if _, err := l.engine.bridgeNetfilter(l.filtered); err != nil {
						return err
					}
				}
				rate, err := transactions(ctx, kind, l.lane)
				if err != nil {
					return fmt.Errorf("%s: %w", l.name, err)
				}
				l.rate[kind] = append(l.rate[kind], rate)
			}
		}
	}
	head("Docker: TCP transactions between two containers of one host, both ends on one core", "path", "bare system calls /s", "× raw veth", "× docker0", "Go net /s", "× docker0", "target")
	docker0 := lanes[1]
	for _, l := range lanes {
		target, least := "", 0.0
		if l.engine == e.ours {
			target, least = "≥ 1.15× docker0", 1.15
		}
		row(l.name, fmt.Sprintf("%.0f", middle(l.rate[bare])), times(middle(l.rate[bare]), middle(base.rate[bare]), 0), times(middle(l.rate[bare]), middle(docker0.rate[bare]), least),
			fmt.Sprintf("%.0f", middle(l.rate[golang])), times(middle(l.rate[golang]), middle(docker0.rate[golang]), least), target)
	}
	return nil
}

// lane starts two containers on the network, which stay.
func (r *rival) lane(ctx context.Context) (*lane, error) {
	l := &lane{name: r.name, rate: map[string][]float64{}}
	for i, end := range []**attachment{&l.a, &l.b} {
		name := fmt.Sprintf("%s-end%d", r.network, i)
		err := r.engine.runContainer(ctx, name, r.network, 0, 0)
		if err == nil {
			*end, l.addr, err = r.engine.sandbox(ctx, name, r.network)
		}
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// dockerPorts measures connections from outside to a published port, of one
// container with one, and then of another with very many beside it.
func dockerPorts(ctx context.Context, o options, e engines) error {
	rivals := []*rival{e.bowline(), e.builtIn(), e.withoutProxy()}
	clients := map[*engine]*attachment{}
	for _, r := range rivals {
		out, err := r.engine.outside()
		if err != nil {
			return err
		}
		defer closeAll([]*attachment{out})
		clients[r.engine] = out
	}
	head("Docker: TCP connections from outside to a published port, both ends on one core", "network", "ports published", "connections /s", "× its own with 1", "× bowline with 1", "target")
	one := map[string]float64{}
	for _, count := range []int{1, o.count(1000, 20)} {
		var ps []*publication
		for _, r := range rivals {
			p, err := r.publish(ctx, count)
			if err != nil {
				return fmt.Errorf("%s, %d ports: %w", r.name, count, err)
			}
			defer closeAll([]*attachment{p.server})
			p.client = clients[r.engine]
			ps = append(ps, p)
		}
		if err := connectInTurns(ctx, o, ps); err != nil {
			return err
		}
		for _, p := range ps {
			rate, target := middle(p.rates), ""
			if count == 1 {
				one[p.name] = rate
			} else if p.side.ours {
				target = "≥ 0.95× its own with 1"
			}
			row(p.name, count, fmt.Sprintf("%.0f", rate), times(rate, one[p.name], 0.95), times(rate, one[rivals[0].name], 0), target)
		}
	}
	return nil
}

// publish starts a container with so many ports.
func (r *rival) publish(ctx context.Context, count int) (*publication, error) {
	name := fmt.Sprintf("ports%d", count)
	first := firstPort + count // of 1 and of more none are the same
	if err := r.engine.runContainer(ctx, name, r.network, first, count); err != nil {
		return nil, err
	}
	server, addr, err := r.engine.sandbox(ctx, name, r.network)
	if err != nil {
		return nil, err
	}
	return &publication{name: r.name, side: r.engine.side, ports: count, server: server,
		at: hostAddr + ":" + strconv.Itoa(first+count-1), listening: addr + ":80"}, nil
}
