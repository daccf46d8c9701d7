package e2e

import (
	"strings"
	"testing"
)

// TestMacvlanConflict: an address that somebody on the LAN has, or the host, is
// not given to a container, and rests. Who says so is not asked.
func TestMacvlanConflict(t *testing.T) {
	for _, tt := range []struct {
		name  string
		conf  conf
		want  string
		rests []string
	}{
		{"taken on the LAN", lan("web", web4, web6), "10.1.0.3 fd00:1::3", []string{"10.1.0.2", "fd00:1::2"}},
		{"with host access", lan("web", web4, web6).with("host-access", true), "10.1.0.3 fd00:1::3", []string{"10.1.0.2", "fd00:1::2"}},
		{"not asked", lan("web", web4, web6).with("acd", false), "10.1.0.2 fd00:1::2", nil},
		{"of the host", lan("web", web4).ipam("ranges", []any{[]any{map[string]any{"subnet": web4, "rangeStart": "10.1.0.253", "rangeEnd": "10.1.0.254"}}}).
			ipam("routes", []any{map[string]any{"dst": "172.30.0.0/16"}}), "10.1.0.253 ", nil},
		{"one family is taken", lan("web", web4, web6).with("mtu", 1400), "10.1.0.3 fd00:1::2", []string{"10.1.0.2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newLANHost(t)
			out := h.outside()
			out.run("ip", "addr", "add", "10.1.0.2/24", "dev", "out0")
			if tt.conf["mtu"] == nil {
				out.run("ip", "addr", "add", "fd00:1::2/64", "dev", "out0", "nodad")
			}
			s := h.sandbox("a")
			r := s.add(tt.conf)
			if got := r.addr("4") + " " + r.addr("6"); got != tt.want {
				t.Errorf("it got %s, want %s", got, tt.want)
			}
			if err := s.check(tt.conf, r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			if out := s.run("ip", "-o", "addr", "show", "dev", "eth0"); tt.rests != nil && (strings.Contains(out, tt.rests[0]+"/") || !strings.Contains(out, r.addr("4"))) {
				t.Errorf("the container has %s", out)
			}
			resting := map[float64]int{} // how many pools have how many addresses that others use
			for _, m := range find(parseMetrics(t, []byte(h.bowline("metrics", "--once"))), "bowline_pool_addresses", "network=web", "state=quarantined") {
				resting[m.GetGauge().GetValue()]++
			}
			if resting[1] != len(tt.rests) {
				t.Errorf("pools by their addresses in quarantine: %v, want %v in it", resting, tt.rests)
			}
			b := h.sandbox("b")
			if _, err := b.tryAdd(tt.conf.with("runtimeConfig", map[string]any{"ips": []string{"10.1.0.2"}})); tt.rests != nil && (code(err) != 100 && code(err) != 11 || !strings.Contains(err.Error(), "10.1.0.2")) {
				t.Errorf("ADD that asks for 10.1.0.2: %v", err)
			}
			b.empty("after it")
			if tt.name == "of the host" {
				if _, err := b.tryAdd(tt.conf); code(err) != 11 || !strings.Contains(err.Error(), "10.1.0.254 is in use by "+h.mac("up0")) {
					t.Errorf("ADD that could get the host's own address only: %v", err)
				}
			}
		})
	}
}

// TestMacvlanConflictDelegated: another plugin's address that somebody has is
// given back, and nothing is left; the engine's next try gets the next one.
func TestMacvlanConflictDelegated(t *testing.T) {
	t.Parallel()
	h := newLANHost(t)
	h.outside().run("ip", "addr", "add", "10.1.0.2/24", "dev", "out0")
	c := lan("web", web4).with("host-access", true).ipam("type", "host-local")
	s := h.sandbox("a")
	before := h.snapshot()
	if _, err := s.tryAdd(c); code(err) != 100 || !strings.Contains(err.Error(), "10.1.0.2") {
		t.Errorf("ADD: %v, want code 100 that names the address", err)
	}
	s.empty("after it")
	if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
		t.Errorf("the failed ADD changed the host:\n%s", d)
	}
	if r := s.add(c); r.addr("4") != "10.1.0.3" {
		t.Errorf("the next ADD got %s, want 10.1.0.3", r.addr("4"))
	}
}
