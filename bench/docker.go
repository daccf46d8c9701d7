package main

import (
	"context"
	"fmt"
	"time"
)

// A rival is a network that Docker's containers can be on.
type rival struct {
	name    string
	engine  *engine
	network string
	// What its calls took.
	connect, disconnect, start, remove []time.Duration
}

// engines are the hosts with dockerd: ours, Docker's as it is, and one without
// its proxies.
type engines struct{ ours, theirs, noProxy *engine }

// docker measures what people see of Docker: how long its calls take with our
// network and with its own, and what packets and connections get.
func docker(ctx context.Context, o options) error {
	var e engines
	for _, one := range []struct {
		engine **engine
		side   side
		driver string
		args   []string
	}{
		{&e.ours, side{name: "dockerd with bowline-bridge", bin: o.ours, ours: true}, "bowline-bridge", nil},
		{&e.theirs, side{name: "dockerd"}, "bridge", nil},
		{&e.noProxy, side{name: "dockerd without proxies"}, "bridge", []string{"--userland-proxy=false"}},
	} {
		var err error
		if *one.engine, err = newEngine(ctx, one.side, one.args...); err != nil {
			return err
		}
		defer (*one.engine).close()
		if err := (*one.engine).network(ctx, "net", one.driver); err != nil {
			return err
		}
	}
	for _, measure := range []func(context.Context, options, engines) error{dockerCalls, dockerPath, dockerPorts} {
		if err := measure(ctx, o, e); err != nil {
			return err
		}
	}
	return nil
}

// dockerCalls measures calls of Docker's API, without the client's process.
func dockerCalls(ctx context.Context, o options, e engines) error {
	ours := &rival{name: "bowline-bridge", engine: e.ours, network: "net"}
	user := &rival{name: "Docker's own, made by the user", engine: e.theirs, network: "net"}
	builtIn := &rival{name: "Docker's built-in bridge", engine: e.theirs, network: "bridge"}
	noProxy := &rival{name: "Docker's built-in bridge, no proxy", engine: e.noProxy, network: "bridge"}
	both := []*rival{user, ours}
	for _, r := range both {
		if err := r.engine.runContainer(ctx, "stays", "bridge", 0, 0); err != nil {
			return err
		}
	}
	for range o.count(51, 5) {
		for _, r := range both {
			if err := r.plugAndUnplug(ctx); err != nil {
				return err
			}
		}
	}
	for _, r := range both {
		if err := r.engine.removeContainer(ctx, "stays"); err != nil {
			return err
		}
	}
	head("Docker: connecting a running container to a network (ms, medians)", "network", "connect", "disconnect", "times as fast as Docker's own", "target")
	for _, r := range both {
		text, target := "", ""
		if r == ours {
			text, target = faster(median(user.connect), median(r.connect), 1)+" / "+faster(median(user.disconnect), median(r.disconnect), 1), "no slower"
		}
		row(r.name, ms(median(r.connect)), ms(median(r.disconnect)), text, target)
	}

	all := []*rival{builtIn, noProxy, user, ours}
	for range o.count(31, 4) {
		for _, r := range all {
			if err := r.startAndRemove(ctx); err != nil {
				return err
			}
		}
	}
	head("Docker: a container with a published port (ms, medians)", "network", "create and start", "stop and remove", "times as fast as the built-in bridge", "target")
	for _, r := range all {
		target, least := "", 0.0
		if r == ours {
			target, least = "≥ 1.1× at start", 1.1
		}
		row(r.name, ms(median(r.start)), ms(median(r.remove)),
			faster(median(builtIn.start), median(r.start), least)+" / "+faster(median(builtIn.remove), median(r.remove), 0), target)
	}
	return nil
}

// plugAndUnplug connects a running container and disconnects it again.
func (r *rival) plugAndUnplug(ctx context.Context) error {
	start := time.Now()
	if err := r.engine.call(ctx, "POST", "/networks/"+r.network+"/connect", object{"Container": "stays"}, nil); err != nil {
		return err
	}
	r.connect = append(r.connect, time.Since(start))
	start = time.Now()
	if err := r.engine.call(ctx, "POST", "/networks/"+r.network+"/disconnect", object{"Container": "stays"}, nil); err != nil {
		return err
	}
	r.disconnect = append(r.disconnect, time.Since(start))
	return nil
}

// startAndRemove starts a container with a port and removes it.
func (r *rival) startAndRemove(ctx context.Context) error {
	start := time.Now()
	if err := r.engine.runContainer(ctx, "goes", r.network, firstPort, 1); err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	r.start = append(r.start, time.Since(start))
	start = time.Now()
	if err := r.engine.removeContainer(ctx, "goes"); err != nil {
		return err
	}
	r.remove = append(r.remove, time.Since(start))
	return nil
}
