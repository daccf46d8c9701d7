package plugin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cnm"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// A target is a network, or an endpoint that is to be as its record says.
type target struct {
	network string
	record  state.Endpoint        // of an endpoint
	config  bowline.NetworkConfig // of a network
	docker  *cnm.Network          // of Docker, or nil
}

func (t target) isNetwork() bool { return t.record.ID == "" }

// place returns what the driver knows of it, with the sandbox if that is given.
func (t target) place(sandbox *netns.Handle) bowline.Place {
	if t.isNetwork() {
		return bowline.Place{Network: t.config}
	}
	p := bowline.Place{Network: t.record.Config(), Endpoint: t.record.Spec()}
	if t.docker != nil {
		p.Network = t.docker.Config()
	}
	if sandbox != nil {
		p.Endpoint.Sandbox = sandbox
	}
	return p
}

// settled is the age from which on a sandbox is as Docker left it: dockerd
// dresses the link after the plugin has answered, and would fail if an address
// were there before. It takes a second.
const settled = 15 * time.Second

// targets returns the networks that there are to look at, and behind each its
// endpoints: those that are complete and whose sandbox lives.
func (s Spec) targets(ctx context.Context) ([]target, error) {
	records, err := s.mine(ctx)
	docker, derr := cnm.OpenNetworks(s.Name).All(ctx)
	byID := map[string]*cnm.Network{}
	for _, n := range docker {
		if n.Ready {
			byID[n.ID] = &n
		}
	}
	endpoints := map[string][]target{}
	for _, r := range records {
		t := target{network: r.Network, record: r}
		if r.Face == "cnm" {
			t.docker = byID[r.Network]
		}
		if t.lives() {
			endpoints[r.Network] = append(endpoints[r.Network], t)
		}
	}
	for id := range byID { // those without containers
		if endpoints[id] == nil {
			endpoints[id] = []target{}
		}
	}
	var all []target
	for id, ts := range endpoints {
		all = append(append(all, networkOf(id, ts, byID[id])), ts...)
	}
	slices.SortStableFunc(all, func(a, b target) int { return cmp.Compare(a.network, b.network) })
	return all, errors.Join(err, derr)
}

// lives reports whether the endpoint is complete, and in a sandbox that is
// there.
func (t target) lives() bool {
	r := t.record
	if r.Face == "cnm" && t.docker == nil {
		return false
	}
	if t.docker != nil {
		return r.Ready && cnm.Alive(r) && r.BootID == state.BootID()
	}
	return r.Ready && alive(r)
}

// networkOf returns the network of the endpoints: with the options of the
// youngest, and the pools of all.
func networkOf(id string, endpoints []target, docker *cnm.Network) target {
	t := target{network: id, docker: docker, config: bowline.NetworkConfig{ID: id}}
	if docker != nil {
		t.config = docker.Config()
		return t
	}
	var youngest time.Time
	for _, e := range endpoints {
		if e.record.Created.After(youngest) {
			youngest, t.config.Options = e.record.Created, e.record.Options
		}
		for _, p := range e.record.Pools {
			if !slices.Contains(t.config.Pools, p) {
				t.config.Pools = append(t.config.Pools, p)
			}
		}
	}
	return t
}

// A holdKey is what to hold to keep a target from being removed.
type holdKey struct{ network, id string }

func (t target) holdKey() holdKey {
	if t.docker != nil { // what Docker asks for is locked by the network
		return holdKey{network: t.network}
	}
	return holdKey{t.network, t.record.ID}
}

// reread reads the target's record again and reports whether it is still there.
func (t *target) reread(ctx context.Context, driver string) bool {
	if t.docker != nil {
		n, err := cnm.OpenNetworks(driver).Get(ctx, t.network)
		if err != nil || !n.Ready {
			return false
		}
		t.docker = &n
	}
	if t.isNetwork() {
		return true
	}
	r, err := state.OpenEndpoints().Get(ctx, driver, t.network, t.record.ID)
	if err != nil || r.NetnsIno != t.record.NetnsIno || r.Sandbox != t.record.Sandbox {
		return false
	}
	t.record = r
	return t.lives()
}
