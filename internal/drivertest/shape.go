package drivertest

import (
	"context"
	"errors"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// shapes is what every driver must do that is a Shaper.
func shapes(t *testing.T, s Suite) {
	for name, f := range map[string]func(*testing.T, *host, bowline.Shaper){
		"limits come and go":                limitsComeAndGo,
		"limits change":                     limitsChange,
		"check sees limits":                 checkSeesLimits,
		"failure at each step with limits":  failWithLimits,
		"prune removes what limits need":    pruneLimits,
		"wrong limits touch nothing":        wrongLimits,
		"delete after the sandbox has died": deleteLimitsLate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := s.host(t)
			if shaper, ok := h.d.(bowline.Shaper); ok { // an optional ability
				f(t, h, shaper)
			}
		})
	}
}

// withRates returns e limited to those bit/s.
func withRates(e bowline.EndpointSpec, in, out uint64) bowline.EndpointSpec {
	e.Rates = bowline.Rates{IngressRate: in, EgressRate: out}
	return e
}

const mbit = 1_000_000

func limitsComeAndGo(t *testing.T, h *host, _ bowline.Shaper) {
	n := h.network()
	made := h.create(n)
	for _, r := range [][2]uint64{{10 * mbit, 0}, {0, 10 * mbit}, {10 * mbit, 20 * mbit}} {
		e := withRates(endpoint(0, netnstest.New(t)), r[0], r[1])
		h.attach(n, e)
		h.must(h.d.CheckEndpoint(t.Context(), n, e))
		with := Snapshot(t, h.ns)
		h.attach(n, e) // again
		h.same("after creating the same again", with)
		h.must(h.d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: e.ID}))
		h.same("after DeleteEndpoint by ID", made)
		h.empty(e)
	}
}

func limitsChange(t *testing.T, h *host, s bowline.Shaper) {
	n, e := h.network(), endpoint(0, netnstest.New(t))
	made := h.create(n)
	h.attach(n, e)
	without := Snapshot(t, h.ns)
	before := e
	for _, r := range [][2]uint64{{10 * mbit, 0}, {0, 10 * mbit}, {5 * mbit, 20 * mbit}, {6 * mbit, 30 * mbit}} {
		now := withRates(e, r[0], r[1])
		h.must(s.Shape(t.Context(), n, now))
		h.must(h.d.CheckEndpoint(t.Context(), n, now))
		if before.Rates != (bowline.Rates{}) {
			if err := h.d.CheckEndpoint(t.Context(), n, before); !errors.Is(err, bowline.ErrDiffers) {
				t.Errorf("CheckEndpoint for %+v with %+v: %v, want ErrDiffers", before.Rates, now.Rates, err)
			}
		}
		before = now
	}
	h.must(s.Shape(t.Context(), n, e))
	h.must(h.d.CheckEndpoint(t.Context(), n, e))
	h.same("after lifting all limits", without)
	h.must(h.d.DeleteEndpoint(t.Context(), n, e))
	h.same("after DeleteEndpoint", made)
	if err := s.Shape(t.Context(), n, before); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("Shape of an endpoint that is gone: %v, want ErrUnknown", err)
	}
}

func checkSeesLimits(t *testing.T, h *host, s bowline.Shaper) {
	n, e := h.network(), withRates(endpoint(0, netnstest.New(t)), 10*mbit, 10*mbit)
	h.create(n)
	h.attach(n, e)
	for _, left := range []bowline.EndpointSpec{withRates(e, 10*mbit, 0), withRates(e, 0, 10*mbit), withRates(e, 0, 0), withRates(e, 10*mbit, 11*mbit)} {
		h.must(s.Shape(t.Context(), n, left))
		if err := h.d.CheckEndpoint(t.Context(), n, e); !errors.Is(err, bowline.ErrDiffers) {
			t.Errorf("CheckEndpoint with %+v: %v, want ErrDiffers", left.Rates, err)
		}
		h.attach(n, e) // makes sure of them
		h.must(h.d.CheckEndpoint(t.Context(), n, e))
	}
}

func failWithLimits(t *testing.T, h *host, s bowline.Shaper) {
	n, e := h.network(), withRates(endpoint(0, netnstest.New(t)), 10*mbit, 10*mbit)
	h.create(n)
	sandbox := e.Sandbox.(*netns.Handle)
	breakAtEach(t, h, "CreateEndpoint", 2, func(ctx context.Context) error {
		_, err := h.d.CreateEndpoint(ctx, n, e)
		return err
	}, sandbox)
	breakAtEach(t, h, "Shape", 1, func(ctx context.Context) error { return s.Shape(ctx, n, withRates(e, 0, 0)) }, sandbox)
}

func pruneLimits(t *testing.T, h *host, _ bowline.Shaper) {
	c, ok := h.d.(bowline.Collector)
	if !ok {
		return
	}
	n := h.network()
	h.create(n)
	kept := withRates(endpoint(0, netnstest.New(t)), mbit, mbit)
	h.attach(n, kept)
	with := Snapshot(t, h.ns)
	h.attach(n, withRates(endpoint(1, netnstest.New(t)), mbit, mbit))
	h.must(c.Prune(t.Context(), n, []string{kept.ID}))
	h.same("after Prune", with)
	h.must(h.d.CheckEndpoint(t.Context(), n, kept))
}

func wrongLimits(t *testing.T, h *host, s bowline.Shaper) {
	n, e := h.network(), endpoint(0, netnstest.New(t))
	h.create(n)
	h.attach(n, e)
	made := Snapshot(t, h.ns)
	for _, r := range []bowline.Rates{{IngressRate: 1}, {EgressBurst: 8}, {EgressRate: mbit, EgressBurst: 1 << 40}} {
		e.Rates = r
		if err := s.Shape(t.Context(), n, e); !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("Shape to %+v: %v, want ErrInvalid", r, err)
		}
		if v, ok := h.d.(bowline.Validator); ok && v.ValidateEndpoint(n, e) == nil {
			t.Errorf("ValidateEndpoint took %+v", r)
		}
		h.same("after wrong limits", made)
	}
}

// deleteLimitsLate: the sandbox ends with its link before DeleteEndpoint comes.
func deleteLimitsLate(t *testing.T, h *host, _ bowline.Shaper) {
	n, sandbox := h.network(), netnstest.New(t)
	made := h.create(n)
	e := withRates(endpoint(0, sandbox), mbit, mbit)
	h.attach(n, e)
	netnstest.Command(t, sandbox, "ip", "link", "delete", e.IfName)
	h.must(h.d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: e.ID}))
	h.same("after DeleteEndpoint", made)
	h.empty(e)
}
