package kernel_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/overlay"
)

// TestBrokenSteps breaks Attach, and then Apply of a new network, at each of their
// steps: the one leaves nothing, and the other goes on from there.
func TestBrokenSteps(t *testing.T) {
	t.Parallel()
	all := hosts(t, 1, false)
	mtu := applyAll(t, all, blue())
	e, ns := container(t, 0, 5)
	in, err := netns.Open(filepath.Join(all[0].dir, "vni-4097"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	look := func() string {
		return netnstest.Command(t, in, "ip", "-br", "link") + netnstest.Command(t, in, "ip", "route") + netnstest.Command(t, in, "ip", "-6", "route") +
			netnstest.Command(t, in, "nft", "list", "chains") + netnstest.Command(t, ns, "ip", "-br", "link")
	}
	// Tables stay, as settings do.
	if _, err := all[0].Attach(t.Context(), blue(), mtu, e); err != nil {
		t.Fatal(err)
	}
	if err := all[0].Detach(t.Context(), 4097, e.ID); err != nil {
		t.Fatal(err)
	}
	before := look()
	n := 0
	for ; ; n++ {
		_, err := all[0].Attach(netnstest.FailAfter(t.Context(), n), blue(), mtu, e)
		if err == nil {
			break
		}
		if after := look(); !errors.Is(err, context.Canceled) || after != before {
			t.Fatalf("Attach that ends at step %d: %v\n got %s\nwant %s", n, err, after, before)
		}
	}
	if n < 8 {
		t.Errorf("Attach asks its context %d times", n)
	}
	if err := all[0].Delete(t.Context(), 4097, overlay.Underlay{Port: 4789}); err != nil {
		t.Fatal(err)
	}
	f, fns := container(t, 0, 6)
	for n = 0; ; n++ {
		if _, err = all[0].Apply(netnstest.FailAfter(t.Context(), n), viewOf(all, 0, blue()), nil, overlay.DefaultBrake(nil)); err == nil {
			break
		}
	}
	if n < 8 {
		t.Errorf("Apply asks its context %d times: %v", n, err)
	}
	if _, err := all[0].Attach(t.Context(), blue(), mtu, f); err != nil {
		t.Fatal(err)
	}
	for _, s := range blue().Subnets {
		if out, err := ping(fns, s.Gateway.String()); err != nil {
			t.Errorf("the gateway is not reached: %s", out)
		}
	}
}
