// Package drivertest is what every driver must do, on a real kernel. The tests
// of a driver start with it.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A Suite says which driver is tested, and what there is to know of it.
type Suite struct {
	// New returns a driver for the host whose namespace is ns. Required.
	New func(ns bowline.Namespace) (bowline.Driver, error)
	// Options are those of the networks, to which containers have a default
	// route.
	Options map[string]string
	// Host makes what a host has before the driver comes, such as a parent.
	Host func(t testing.TB, ns *netns.Handle)
	// Alone says that all that the driver makes is in the sandboxes: a network
	// without endpoints is nothing, and nothing on the host says whose an
	// endpoint is.
	Alone bool
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	for name, f := range map[string]func(*testing.T, *host){
		"endpoint comes and goes":            comesAndGoes,
		"link stays in host without sandbox": staysInHost,
		"create is idempotent":               idempotent,
		"bad option touches nothing":         badOption,
		"network with endpoints stays":       networkInUse,
		"check sees what is missing":         checkSees,
		"delete needs the ID alone":          deleteByID,
		"failure at each step":               failAtEachStep,
		"taken name in sandbox":              takenName,
		"many at once":                       manyAtOnce,
		"prune keeps what it is told":        prune,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, s.host(t))
		})
	}
	shapes(t, s)
	publishes(t, s)
	repairs(t, s)
}

// A host is a namespace of the test's own with a driver in it.
type host struct {
	Suite
	t  *testing.T
	ns *netns.Handle
	d  bowline.Driver
}

func (s Suite) host(t *testing.T) *host {
	t.Helper()
	ns := netnstest.New(t)
	if s.Host != nil {
		s.Host(t, ns)
	}
	d, err := s.New(ns)
	if err != nil {
		t.Fatal(err)
	}
	return &host{s, t, ns, d}
}

// Network returns a dual-stack network with the options.
func Network(id string, options map[string]string) bowline.NetworkConfig {
	return bowline.NetworkConfig{
		ID: id,
		Pools: []bowline.Pool{
			{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1")},
			{Prefix: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1")},
		},
		Options: maps.Clone(options),
	}
}

// network returns the one that the tests are on.
func (h *host) network() bowline.NetworkConfig { return Network("web", h.Options) }

func endpoint(i int, sandbox bowline.Namespace) bowline.EndpointSpec {
	e := bowline.EndpointSpec{
		ID:    fmt.Sprintf("c%d/eth0", i),
		Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 2)}), 24), netip.MustParsePrefix(fmt.Sprintf("fd00:1::%x/64", i+2))},
	}
	if sandbox != nil {
		e.Sandbox, e.IfName = sandbox, "eth0"
	}
	return e
}

// create makes the network and has one endpoint come and go, so that what the
// first endpoint of a network makes for all is there.
func (h *host) create(n bowline.NetworkConfig) (made string) {
	h.t.Helper()
	h.must(h.d.CreateNetwork(h.t.Context(), n))
	e := endpoint(99, netnstest.New(h.t))
	h.attach(n, e)
	h.must(h.d.DeleteEndpoint(h.t.Context(), n, e))
	return Snapshot(h.t, h.ns)
}

func (h *host) same(what, before string) {
	h.t.Helper()
	if after := Snapshot(h.t, h.ns); after != before {
		h.t.Errorf("%s: the host is not as it was\nbefore:\n%s\nafter:\n%s", what, before, after)
	}
}

// empty looks for links that are left in the endpoint's sandbox.
func (h *host) empty(e bowline.EndpointSpec) {
	h.t.Helper()
	if left := netnstest.Command(h.t, e.Sandbox.(*netns.Handle), "ip", "-o", "link"); strings.Count(left, "\n") > 1 {
		h.t.Errorf("left in the sandbox:\n%s", left)
	}
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) attach(n bowline.NetworkConfig, e bowline.EndpointSpec) bowline.Attachment {
	h.t.Helper()
	a, err := h.d.CreateEndpoint(h.t.Context(), n, e)
	h.must(err)
	return a
}

func (h *host) linkIn(ns bowline.Namespace, name string) (link.Info, error) {
	h.t.Helper()
	l, err := link.Open(ns)
	h.must(err)
	defer l.Close()
	return l.Get(h.t.Context(), name)
}

func comesAndGoes(t *testing.T, h *host) {
	before, n, sandbox := Snapshot(t, h.ns), h.network(), netnstest.New(t)
	empty := Snapshot(t, sandbox)
	made := h.create(n)
	e := endpoint(0, sandbox)
	a := h.attach(n, e)
	if a.Link != "eth0" || len(a.Addrs) != 2 || len(a.MAC) != 6 || a.MTU == 0 || len(a.Gateways) != 2 {
		t.Errorf("attachment is %+v", a)
	}
	l, err := h.linkIn(sandbox, "eth0")
	h.must(err)
	if l.MAC.String() != a.MAC.String() || l.MTU != a.MTU {
		t.Errorf("link is %+v, attachment says %+v", l, a)
	}
	h.must(h.d.CheckEndpoint(t.Context(), n, e))
	for range 2 {
		h.must(h.d.DeleteEndpoint(t.Context(), n, e))
	}
	h.same("after DeleteEndpoint", made)
	if got := Snapshot(t, sandbox); got != empty {
		t.Errorf("sandbox afterwards:\n%s", got)
	}
	for range 2 {
		h.must(h.d.DeleteNetwork(t.Context(), n))
	}
	h.same("after DeleteNetwork", before)
}

func staysInHost(t *testing.T, h *host) {
	n := h.network()
	made := h.create(n)
	a := h.attach(n, endpoint(0, nil))
	if _, err := h.linkIn(h.ns, a.Link); err != nil {
		t.Errorf("the engine could not move the link: %v", err)
	}
	h.must(h.d.DeleteEndpoint(t.Context(), n, endpoint(0, nil)))
	h.same("after DeleteEndpoint", made)
}

func idempotent(t *testing.T, h *host) {
	n, e := h.network(), endpoint(0, netnstest.New(t))
	h.create(n)
	first := h.attach(n, e)
	made := Snapshot(t, h.ns)
	h.must(h.d.CreateNetwork(t.Context(), n))
	if second := h.attach(n, e); fmt.Sprint(second) != fmt.Sprint(first) {
		t.Errorf("second CreateEndpoint is %+v, first was %+v", second, first)
	}
	h.same("after creating the same again", made)
	if h.Alone {
		return // whose it is, records say
	}
	elsewhere := e
	elsewhere.Sandbox = netnstest.New(t)
	if _, err := h.d.CreateEndpoint(t.Context(), n, elsewhere); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("same ID in another sandbox: %v, want ErrConflict", err)
	}
	h.same("after a refused create", made)
}

func badOption(t *testing.T, h *host) {
	before, n := Snapshot(t, h.ns), h.network()
	n.Options["mut"] = "1400"
	err := h.d.CreateNetwork(t.Context(), n)
	if !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), `network "web": option mut="1400": there is no such key; did you mean mtu?`) {
		t.Errorf("CreateNetwork: %v", err)
	}
	if v, ok := h.d.(bowline.Validator); ok && v.ValidateNetwork(n) == nil {
		t.Error("ValidateNetwork took it")
	}
	h.same("after a bad option", before)
}

func networkInUse(t *testing.T, h *host) {
	n, e := h.network(), endpoint(0, netnstest.New(t))
	h.must(h.d.CreateNetwork(t.Context(), n))
	h.attach(n, e)
	made := Snapshot(t, h.ns)
	if err := h.d.DeleteNetwork(t.Context(), n); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("DeleteNetwork: %v, want ErrConflict", err)
	}
	h.same("after a refused DeleteNetwork", made)
}

func checkSees(t *testing.T, h *host) {
	n, e := h.network(), endpoint(0, netnstest.New(t))
	h.must(h.d.CreateNetwork(t.Context(), n))
	a := h.attach(n, e)
	netnstest.Command(t, e.Sandbox.(*netns.Handle), "ip", "link", "delete", a.Link) // a veth's other end goes with it
	if err := h.d.CheckEndpoint(t.Context(), n, e); !errors.Is(err, bowline.ErrDiffers) {
		t.Errorf("CheckEndpoint without link: %v, want ErrDiffers", err)
	}
	h.must(h.d.DeleteEndpoint(t.Context(), n, e))
}

func deleteByID(t *testing.T, h *host) {
	n := h.network()
	made := h.create(n)
	e := endpoint(0, netnstest.New(t))
	h.attach(n, e)
	n.Pools = nil
	h.must(h.d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: e.ID}))
	h.same("after DeleteEndpoint by ID", made)
}

// failAtEachStep breaks CreateNetwork and CreateEndpoint at every verb.
func failAtEachStep(t *testing.T, h *host) {
	n, sandbox := h.network(), netnstest.New(t)
	breakAtEach(t, h, "CreateNetwork", 1, func(ctx context.Context) error { return h.d.CreateNetwork(ctx, n) })
	h.create(n)
	breakAtEach(t, h, "CreateEndpoint", 2, func(ctx context.Context) error {
		_, err := h.d.CreateEndpoint(ctx, n, endpoint(0, sandbox))
		return err
	}, sandbox)
}

// breakAtEach breaks f at each of its steps, of which there are some at least,
// until it succeeds, and compares the host, and the sandboxes, after each failure.
func breakAtEach(t *testing.T, h *host, what string, least int, f func(context.Context) error, sandboxes ...*netns.Handle) {
	t.Helper()
	all := func() string {
		text := Snapshot(t, h.ns)
		for _, ns := range sandboxes {
			text += Snapshot(t, ns)
		}
		return text
	}
	before := all()
	for steps := 0; ; steps++ {
		if steps > 200 {
			t.Fatalf("%s: fails still after %d steps", what, steps)
		}
		err := f(netnstest.FailAfter(t.Context(), steps))
		if err == nil {
			if steps < least {
				t.Fatalf("%s succeeded with %d steps allowed: it asks no context", what, steps)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s, step %d: %v", what, steps, err)
		}
		if after := all(); after != before {
			t.Errorf("%s broken at step %d: it is not as it was\nbefore:\n%s\nafter:\n%s", what, steps, before, after)
		}
	}
}

func takenName(t *testing.T, h *host) {
	n, sandbox := h.network(), netnstest.New(t)
	h.must(h.d.CreateNetwork(t.Context(), n))
	h.attach(n, endpoint(0, sandbox))
	made := Snapshot(t, h.ns)
	_, err := h.d.CreateEndpoint(t.Context(), n, endpoint(1, sandbox)) // eth0 again
	if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("CreateEndpoint: %v, want ErrConflict that names eth0", err)
	}
	h.same("after a taken name", made)
}

func manyAtOnce(t *testing.T, h *host) {
	before, n := Snapshot(t, h.ns), h.network()
	const many = 16
	var sandboxes [many]*netns.Handle
	for i := range many {
		sandboxes[i] = netnstest.New(t)
	}
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			e := endpoint(i, sandboxes[i])
			err := h.d.CreateNetwork(t.Context(), n)
			if err == nil {
				_, err = h.d.CreateEndpoint(t.Context(), n, e)
			}
			if err == nil {
				err = h.d.CheckEndpoint(t.Context(), n, e)
			}
			if err = errors.Join(err, h.d.DeleteEndpoint(t.Context(), n, e)); err != nil {
				t.Errorf("endpoint %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	h.must(h.d.DeleteNetwork(t.Context(), n))
	h.same("after all", before)
}

func prune(t *testing.T, h *host) {
	c, ok := h.d.(bowline.Collector)
	if !ok {
		return // an optional ability
	}
	before, n := Snapshot(t, h.ns), h.network()
	h.must(h.d.CreateNetwork(t.Context(), n))
	kept := endpoint(0, netnstest.New(t))
	h.attach(n, kept)
	with := Snapshot(t, h.ns)
	for i := 1; i < 4; i++ {
		h.attach(n, endpoint(i, netnstest.New(t)))
	}
	h.must(c.Prune(t.Context(), n, []string{kept.ID}))
	h.same("after Prune", with)
	h.must(h.d.CheckEndpoint(t.Context(), n, kept))
	if ns, err := c.Networks(t.Context()); err != nil || len(ns) != 0 {
		t.Errorf("Networks = %v, %v; want none, for the one has an endpoint", ns, err)
	}
	h.must(c.Prune(t.Context(), n, nil))
	if h.Alone {
		h.same("after pruning all", before)
		return
	}
	ns, err := c.Networks(t.Context())
	if err != nil || len(ns) != 1 || ns[0].ID != n.ID {
		t.Fatalf("Networks = %v, %v; want %s", ns, err, n.ID)
	}
	h.must(h.d.DeleteNetwork(t.Context(), ns[0]))
	h.same("after deleting what Networks returned", before)
}
