package runtime

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A sandbox that shares the host's namespace is the host's namespace, connects
// to nothing, and takes nothing along when it goes.
func TestShare(t *testing.T) {
	h := newHost(t)
	h.network("web", "br0", "10.9.0.0/24")
	h.run("", "ip", "link", "add", "nic0", "type", "veth", "peer", "name", "cable0")
	h.run("", "ip", "addr", "add", "192.0.2.1/24", "dev", "nic0")
	share := func(ctx context.Context, name string) (s Sandbox, err error) {
		err = h.try(func(context.Context) error { s, err = h.r.ShareSandbox(ctx, name); return err })
		return s, err
	}
	before := h.everything()
	for steps := 0; ; steps++ {
		s, err := share(netnstest.FailAfter(t.Context(), steps), "one")
		if err == nil {
			want, _ := h.ns.ID()
			if id, ok := netns.Stat(s.Path); !ok || id != want || s.Network != "host" || !s.Alive() {
				t.Errorf("the sandbox is %+v, want the namespace %v", s, want)
			}
			if steps < 2 {
				t.Errorf("it succeeds with %d steps allowed: it asks no context", steps)
			}
			break
		}
		if after := h.everything(); !slices.Equal(before, after) {
			t.Fatalf("after a failure at step %d there is\n%q, before\n%q", steps, after, before)
		}
	}
	if _, err := share(t.Context(), "one"); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("the same name again: %v, want ErrConflict", err)
	}
	two, err := share(t.Context(), "two") // as many as there are containers
	if err != nil {
		t.Fatal(err)
	}
	if got := h.run(two.Path, "ip", "-o", "addr"); !strings.Contains(got, "192.0.2.1/24") {
		t.Errorf("inside there is\n%s", got)
	}
	shared := h.everything()
	err = h.try(func(ctx context.Context) error {
		_, err := h.r.Connect(ctx, ConnectSpec{Sandbox: "one", Network: "web"})
		return err
	})
	if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "shares the host's own namespace") {
		t.Errorf("Connect: %v", err)
	}
	if after := h.everything(); !slices.Equal(shared, after) {
		t.Errorf("a refused Connect leaves\n%q, before\n%q", after, shared)
	}
	if s := h.sandbox("three"); s.Network != "none" {
		t.Errorf("an ordinary sandbox says %q", s.Network)
	}
	for _, name := range []string{"one", "two", "three"} {
		h.do(func(ctx context.Context) error { return h.r.RemoveSandbox(ctx, name, false) })
	}
	if after := h.everything(); !slices.Equal(before, after) {
		t.Errorf("afterwards there is\n%q, before\n%q", after, before)
	}
}
