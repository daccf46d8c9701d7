package e2e

import (
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

func TestGC(t *testing.T) {
	for _, k := range kinds() {
		tests := []struct {
			name  string
			valid []string
			left  string // sandboxes that still reach their gateway
		}{
			{"key absent", nil, "abc"},
			{"empty list", []string{}, ""},
			{"one listed", []string{"b/eth0"}, "b"},
			{"listed with another interface", []string{"a/eth0", "b/eth1"}, "a"},
			{"all listed", []string{"a/eth0", "b/eth0", "c/eth0"}, "abc"},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				c, other := k.network("web", web4, web6), k.network("db", db4)
				var boxes []*sandbox
				var gw string
				for _, id := range []string{"a", "b", "c"} {
					s := h.sandbox(id)
					gw = s.add(c).gateway("4")
					boxes = append(boxes, s)
				}
				d := h.sandbox("d")
				rd := d.add(other)
				if err := h.gc(c, tt.valid); err != nil {
					t.Fatalf("GC: %v", err)
				}
				for _, s := range boxes {
					if got, want := s.reaches(gw), strings.Contains(tt.left, s.id); got != want {
						t.Errorf("%s reaches its gateway: %v, want %v", s.id, got, want)
					}
				}
				if !d.reaches(rd.gateway("4")) {
					t.Error("GC of one network took a container from another")
				}
				if err := h.gc(c, tt.valid); err != nil {
					t.Errorf("second GC: %v", err)
				}
			})
		}
	}
}

// TestGCFreesAddresses: what GC drops can be used again at once.
func TestGCFreesAddresses(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.network("web", "10.1.0.0/30") // one address besides the gateway
		a := h.sandbox("a")
		a.add(c)
		b := h.sandbox("b")
		if _, err := b.tryAdd(c); code(err) != 11 {
			t.Fatalf("ADD to a full pool: %v, want code 11", err)
		}
		a.end() // the container is gone and nobody called DEL
		if err := h.gc(c, []string{}); err != nil {
			t.Fatal(err)
		}
		b.add(c)
	})
}

// TestDeadSandboxesGiveBack: a full pool gives the addresses of namespaces
// that are gone to the next container, without GC.
func TestDeadSandboxesGiveBack(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.network("web", "10.1.0.0/30")
		a := h.sandbox("a")
		a.add(c)
		held, err := netns.Open(a.path) // a process may live on in it
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		a.end()
		b := h.sandbox("b")
		if r := b.add(c); !b.reaches(r.gateway("4")) {
			t.Error("who got the address does not reach its gateway")
		}
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.network("web", "10.1.0.0/30")
		before := h.snapshot()
		if err := h.status(c); err != nil {
			t.Errorf("STATUS of a network that can serve: %v", err)
		}
		if d := diff(before, h.snapshot()); d != "" {
			t.Errorf("STATUS changed the host:\n%s", d)
		}
		s := h.sandbox("a")
		r := s.add(c)
		if err := h.status(c); code(err) != 50 {
			t.Errorf("STATUS of an exhausted pool: %v, want code 50", err)
		}
		s.del(c, r)
		if err := h.status(c); err != nil {
			t.Errorf("STATUS after the address was given back: %v", err)
		}
		if err := h.status(c.with("mtu", "jumbo")); code(err) != 7 && code(err) != 50 {
			t.Errorf("STATUS of a wrong configuration: %v, want code 7 or 50", err)
		}
		if err := h.status(c.ipam("type", "no-such-ipam")); code(err) != 50 {
			t.Errorf("STATUS without the IPAM plugin: %v, want code 50", err)
		}
	})
}
