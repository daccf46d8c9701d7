package runtime

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// What fails at any step takes back all steps before.
func TestFailAtEveryStep(t *testing.T) {
	h := newHost(t)
	h.network("web", "br0", "10.9.0.0/24")
	h.sandbox("one")
	tests := []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"CreateSandbox", func(ctx context.Context) error {
			_, err := h.r.CreateSandbox(ctx, "two")
			return err
		}},
		{"Connect", func(ctx context.Context) error {
			_, err := h.r.Connect(ctx, ConnectSpec{Sandbox: "one", Network: "web"})
			return err
		}},
		{"CreateNetwork", func(ctx context.Context) error {
			_, err := h.r.CreateNetwork(ctx, NetworkSpec{Conf: h.reference("db", "br1", "10.10.0.0/24")})
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := h.everything()
			failed := 0
			for ; ; failed++ {
				ctx := netnstest.FailAfter(t.Context(), failed)
				if h.try(func(context.Context) error { return tt.do(ctx) }) == nil {
					break
				}
				if after := h.everything(); !slices.Equal(before, after) {
					t.Fatalf("after a failure at step %d there is\n%q, before\n%q", failed, after, before)
				}
				if failed > 100 {
					t.Fatal("it never succeeds")
				}
			}
			if failed == 0 {
				t.Errorf("it did not fail at all")
			}
		})
	}
}

// everything returns the records and leases, the namespaces and the links.
func (h *host) everything() []string {
	h.t.Helper()
	mounted, _ := os.ReadDir(h.r.netnsDir)
	all := h.records()
	for _, m := range mounted {
		all = append(all, m.Name())
	}
	return append(all, h.run("", "ip", "-o", "link", "show", "type", "veth"))
}
