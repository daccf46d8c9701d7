package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A rival is a network that Docker's containers can be on.
type rival struct {
	name    string
	engine  *engine
	network string
	// What its calls took.
	connect, disconnect, start, end []time.Duration
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
	for _, measure := range []func(context.Context, options, engines) error{dockerConnect, dockerStart, dockerPath, dockerPorts} {
		if err := measure(ctx, o, e); err != nil {
			return err
		}
	}
	return nil
}

// The networks that are compared.
func (e engines) bowline() *rival {
	return &rival{name: "bowline-bridge", engine: e.ours, network: "net"}
}

func (e engines) user() *rival {
	return &rival{name: "Docker's own, made by the user", engine: e.theirs, network: "net"}
}

func (e engines) builtIn() *rival {
	return &rival{name: "docker0", engine: e.theirs, network: "bridge"}
}

func (e engines) withoutProxy() *rival {
	return &rival{name: "docker0, no proxy", engine: e.noProxy, network: "bridge"}
}

// dockerConnect measures how long it takes to connect a container that runs, by
// Docker's API, without the client's process.
func dockerConnect(ctx context.Context, o options, e engines) error {
	user, ours := e.user(), e.bowline()
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
	return nil
}

// dockerStart measures how long it takes to run a container, and to remove it.
func dockerStart(ctx context.Context, o options, e engines) error {
	builtIn, ours := e.builtIn(), e.bowline()
	all := []*rival{builtIn, e.withoutProxy(), e.user(), ours}
	for range o.count(31, 4) {
		for _, r := range all {
			if err := r.startAndRemove(ctx); err != nil {
				return err
			}
		}
	}
	head("Docker: a container with a published port (ms, medians)", "network", "create and start", "stop and remove", "times as fast as docker0", "target")
	for _, r := range all {
		target, least := "", 0.0
		if r == ours {
			target, least = "≥ 1.1× at start", 1.1
		}
		row(r.name, ms(median(r.start)), ms(median(r.end)),
			faster(median(builtIn.start), median(r.start), least)+" / "+faster(median(builtIn.end), median(r.end), 0), target)
	}
	return nil
}

// plugAndUnplug connects a running container and disconnects it again.
func (r *rival) plugAndUnplug(ctx context.Context) error {
	pause()
	start := time.Now()
	if err := r.engine.call(ctx, "POST", "/networks/"+r.network+"/connect", object{"Container": "stays"}, nil); err != nil {
		return err
	}
	r.connect = append(r.connect, time.Since(start))
	pause()
	start = time.Now()
	if err := r.engine.call(ctx, "POST", "/networks/"+r.network+"/disconnect", object{"Container": "stays"}, nil); err != nil {
		return err
	}
	r.disconnect = append(r.disconnect, time.Since(start))
	return nil
}

// pause waits for a while, not always as long: the kernel's own waits end with
// the ticks of its clock, and where between two of them a call starts must not
// depend on what the call before it did.
func pause() {
	<-time.After(20*time.Millisecond + rand.N(10*time.Millisecond))
}

// startAndRemove starts a container with a port and removes it.
func (r *rival) startAndRemove(ctx context.Context) error {
	pause()
	start := time.Now()
	if err := r.engine.runContainer(ctx, "goes", r.network, firstPort, 1); err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	r.start = append(r.start, time.Since(start))
	pause()
	start = time.Now()
	if err := r.engine.removeContainer(ctx, "goes"); err != nil {
		return err
	}
	r.end = append(r.end, time.Since(start))
	return nil
}
