package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// neighbour returns the MAC that the cache of a namespace has for addr, by what
// ip neigh says.
func neighbour(out string) string {
	_, rest, _ := strings.Cut(out, "lladdr ")
	mac, _, _ := strings.Cut(rest, " ")
	return mac
}

// TestAnnounced: a container that gets the address of one that is gone, with
// another MAC, is found at once by those who knew the other: by a neighbour, and
// by the host. With announce=false it is not.
func TestAnnounced(t *testing.T) {
	for _, announce := range []bool{true, false} {
		t.Run(fmt.Sprint(announce), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := network("web", web4, web6).with("announce", announce)
			a, b, next := h.sandbox("a"), h.sandbox("b"), h.sandbox("next")
			ra := a.add(c)
			rb := b.add(c)
			addrs := []string{ra.addr("4"), ra.addr("6")}
			for _, addr := range addrs {
				if !b.reaches(addr) {
					t.Fatalf("b does not reach %s", addr)
				}
				h.run("ping", "-c", "1", addr)
			}
			caches := func() map[string]string {
				m := map[string]string{}
				for _, addr := range addrs {
					m["b "+addr] = neighbour(b.run("ip", "neigh", "show", addr))
					m["host "+addr] = neighbour(h.run("ip", "neigh", "show", addr))
				}
				return m
			}
			a.del(c, ra)
			old := caches()
			r, err := next.tryAdd(c.with("runtimeConfig", map[string]any{"ips": addrs}))
			if err != nil {
				t.Fatal(err)
			}
			mac := r.Interfaces[2].Mac
			if got := []string{r.addr("4"), r.addr("6")}; got[0] != addrs[0] || got[1] != addrs[1] || mac == ra.Interfaces[2].Mac {
				t.Fatalf("the next one has %v and MAC %s, want %v and another MAC than %s", got, mac, addrs, ra.Interfaces[2].Mac)
			}
			if !announce {
				if now := caches(); fmt.Sprint(now) != fmt.Sprint(old) {
					t.Errorf("caches are %v, were %v", now, old)
				}
			} else {
				eventually(t, func() error { // a packet takes its time, too
					for who, got := range caches() {
						if got != mac {
							return fmt.Errorf("%s has MAC %q, want %s", who, got, mac)
						}
					}
					return nil
				})
				for _, addr := range addrs {
					if !b.reaches(addr) {
						t.Errorf("b does not reach %s", addr)
					}
				}
			}
			next.del(c, r)
			b.del(c, rb)
		})
	}
}

// TestIPv6AtOnce: the address can be used when ADD returns, whether it went
// through duplicate address detection or not.
func TestIPv6AtOnce(t *testing.T) {
	for _, dad := range []bool{false, true} {
		t.Run(fmt.Sprint("enabledad=", dad), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := network("web", web4, web6)
			b := h.sandbox("b")
			rb := b.add(c)
			b.serve("[" + rb.addr("6") + "]:80")
			a := h.sandbox("a")
			ra := a.add(c.with("enabledad", dad))
			a.serve("[" + ra.addr("6") + "]:80") // fails with an address that is tentative
			for from, to := range map[*sandbox]string{a: rb.addr("6"), b: ra.addr("6")} {
				if _, err := from.ask("[" + to + "]:80"); err != nil {
					t.Errorf("%s asks %s: %v", from.id, to, err)
				}
			}
			if out := a.run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "global", "tentative"); out != "" {
				t.Errorf("still tentative: %s", out)
			}
			a.del(c, ra)
			b.del(c, rb)
		})
	}
}
