package e2e

import (
	"strings"
	"testing"
)

// TestDelegatedIPAM: another plugin's IPAM is called with all verbs, and what
// it reserved is given back.
func TestDelegatedIPAM(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.network("web", "10.1.0.0/30", web6).ipam("type", "host-local")
		for _, id := range []string{"a", "b"} { // the second gets what the first gave back
			s := h.sandbox(id)
			r := s.add(c)
			if r.addr("4") != "10.1.0.2" || !s.reaches(r.gateway("4")) {
				t.Errorf("%s has %s and reaches its gateway: %v", id, r.addr("4"), s.reaches(r.gateway("4")))
			}
			if err := s.check(c, r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			s.del(c, r)
		}
		for _, r := range h.records() {
			if strings.HasPrefix(r, "cni/") {
				t.Errorf("lease left: %s", r)
			}
		}
	})
}

// TestDelegatedGC: the reference's host-local has no GC; what it holds for
// containers that are not valid is given back by its DEL.
func TestDelegatedGC(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.network("web", "10.1.0.0/30").ipam("type", "host-local")
		a := h.sandbox("a")
		a.add(c)
		a.end()
		if err := h.gc(c, []string{}); err != nil {
			t.Fatal(err)
		}
		h.sandbox("b").add(c)
	})
}

func TestStaticIPAM(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.network("web").with("ipam", map[string]any{"type": "static",
			"addresses": []any{map[string]any{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}}})
		s := h.sandbox("a")
		r := s.add(c)
		if r.addr("4") != "10.1.0.9" || !s.reaches("10.1.0.1") {
			t.Errorf("address is %s, gateway answers: %v", r.addr("4"), s.reaches("10.1.0.1"))
		}
		s.del(c, r)
	})
}

// TestIPAMPlugin: bowline-ipam serves the reference bridge plugin as its
// host-local does.
func TestIPAMPlugin(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", web4, web6).with("type", "bridge").ipam("type", "bowline-ipam").ipam("routes", []any{map[string]any{"dst": "172.30.0.0/16"}})
	a, b := h.sandbox("a"), h.sandbox("b")
	ra, rb := a.add(c), b.add(c)
	if ra.addr("4") == rb.addr("4") || !a.reaches(rb.addr("4")) {
		t.Errorf("a has %s, b has %s; they are to reach each other", ra.addr("4"), rb.addr("4"))
	}
	if err := a.check(c, ra); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	for _, s := range []*sandbox{a, b} {
		if err := s.tryDel(c, s.path); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	for _, r := range h.records() {
		if strings.Contains(r, "10.1.0.") {
			t.Errorf("lease left: %s", r)
		}
	}
	if err := h.gc(c.with("type", "bowline-ipam"), []string{}); err != nil { // the reference does not pass it on
		t.Errorf("GC: %v", err)
	}
	h.run("ip", "link", "delete", "br-web") // the reference has no GC
	h.run("nft", "flush", "ruleset")        // nor does it take its chains away
}
