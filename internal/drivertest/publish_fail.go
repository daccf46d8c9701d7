package drivertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func failWithPorts(t *testing.T, h *host, p bowline.Publisher) {
	n, e := h.network(), with(endpoint(0, netnstest.New(t)), kinds()...)
	made := h.createPublishing(n)
	h.eachStep("CreateEndpoint", made, func(ctx context.Context) error {
		_, err := h.d.CreateEndpoint(ctx, n, e)
		return err
	})
}

// eachStep breaks f at every verb until it succeeds.
func (h *host) eachStep(what, before string, f func(context.Context) error) {
	h.t.Helper()
	for steps := range 200 {
		err := f(netnstest.FailAfter(h.t.Context(), steps))
		if err == nil {
			if steps < 3 {
				h.t.Errorf("%s succeeded with %d steps allowed", what, steps)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			h.t.Fatalf("%s, step %d: %v", what, steps, err)
		}
		h.same(fmt.Sprintf("%s broken at step %d", what, steps), before)
	}
	h.t.Fatalf("%s fails still", what)
}

func failPublishing(t *testing.T, h *host, p bowline.Publisher) {
	n, e := h.network(), endpoint(0, netnstest.New(t))
	h.createPublishing(n)
	h.attach(n, e)
	for _, before := range [][]bowline.PortMapping{nil, {tcp(80, 80), {HostPort: 5300, Port: 53, Protocol: "udp"}}} {
		_, err := p.Publish(t.Context(), n, with(e, before...))
		h.must(err)
		h.eachStep("Publish", Snapshot(t, h.ns), func(ctx context.Context) error {
			_, err := p.Publish(ctx, n, with(e, kinds()...))
			return err
		})
	}
}

func pruneEndsPorts(t *testing.T, h *host, _ bowline.Publisher) {
	c, ok := h.d.(bowline.Collector)
	if !ok {
		return
	}
	before, n := Snapshot(t, h.ns), h.network()
	h.createPublishing(n)
	kept := with(endpoint(0, netnstest.New(t)), tcp(80, 80))
	h.attach(n, kept)
	alone := Snapshot(t, h.ns)
	h.attach(n, with(endpoint(1, netnstest.New(t)), kinds()...))
	h.must(c.Prune(t.Context(), n, []string{kept.ID}))
	h.same("after Prune", alone)
	h.must(h.d.CheckEndpoint(t.Context(), n, kept))
	h.must(c.Prune(t.Context(), n, nil))
	h.must(h.d.DeleteNetwork(t.Context(), n))
	h.same("after DeleteNetwork", before)
}

func wrongPorts(t *testing.T, h *host, p bowline.Publisher) {
	n := h.network()
	made := h.createPublishing(n)
	e := endpoint(0, netnstest.New(t))
	only4 := e
	only4.Addrs = e.Addrs[:1]
	end := tcp(80, 80)
	end.HostPortEnd = 79
	rowOfChoice := tcp(80, 80)
	rowOfChoice.HostPortEnd, rowOfChoice.Count = 90, 2
	for _, e := range []bowline.EndpointSpec{
		with(e, tcp(80, 0)), with(e, bowline.PortMapping{HostPort: 80, Port: 80, Protocol: "icmp"}), with(e, bowline.PortMapping{HostPort: 80, Port: 80}),
		with(e, bowline.PortMapping{HostPort: 65535, Port: 80, Count: 2, Protocol: "tcp"}), with(e, bowline.PortMapping{HostPort: 80, Port: 65535, Count: 2, Protocol: "tcp"}),
		with(e, end), with(e, rowOfChoice), with(e, tcp(80, 80), tcp(80, 81)),
		with(only4, bowline.PortMapping{HostIP: netip.MustParseAddr("::1"), HostPort: 80, Port: 80, Protocol: "tcp"}),
	} {
		if _, err := h.d.CreateEndpoint(t.Context(), n, e); !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("%v: %v, want ErrInvalid", e.Ports, err)
		}
		h.same("after wrong ports", made)
	}
	// One family alone is no mistake if none was asked for.
	h.attach(n, with(only4, tcp(80, 80)))
}

func portsAtOnce(t *testing.T, h *host, _ bowline.Publisher) {
	n := h.network()
	made := h.createPublishing(n)
	const many = 16
	var sandboxes [many]*netns.Handle
	for i := range many {
		sandboxes[i] = netnstest.New(t)
	}
	var mu sync.Mutex
	var won []bowline.EndpointSpec
	chosen := map[uint16]bool{}
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			few := tcp(9000, 80)
			few.HostPortEnd = 9003
			e := with(endpoint(i, sandboxes[i]), few)
			a, err := h.d.CreateEndpoint(t.Context(), n, e)
			if err != nil {
				if !errors.Is(err, bowline.ErrExhausted) {
					t.Errorf("endpoint %d: %v, want a port or ErrExhausted", i, err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			e.Ports = a.Ports
			won = append(won, e)
			chosen[a.Ports[0].HostPort] = true
		})
	}
	wg.Wait()
	if len(won) != 4 || len(chosen) != 4 {
		t.Errorf("%d endpoints got %v, want four of them one each of 9000 to 9003", len(won), chosen)
	}
	for _, e := range won {
		h.must(h.d.CheckEndpoint(t.Context(), n, e))
		h.must(h.d.DeleteEndpoint(t.Context(), n, e))
	}
	h.same("after all", made)
}

// portsBeforeAddresses: a face may ask for the link first.
func portsBeforeAddresses(t *testing.T, h *host, _ bowline.Publisher) {
	n, e := h.network(), with(endpoint(0, netnstest.New(t)), tcp(80, 80))
	made := h.createPublishing(n)
	early := e
	early.Addrs = nil
	if a := h.attach(n, early); len(a.Ports) != 0 {
		t.Errorf("without addresses %v is published", a.Ports)
	}
	if a := h.attach(n, e); len(a.Ports) != 1 {
		t.Errorf("with addresses %v is published", a.Ports)
	}
	h.must(h.d.CheckEndpoint(t.Context(), n, e))
	h.must(h.d.DeleteEndpoint(t.Context(), n, e))
	h.same("after DeleteEndpoint", made)
}
