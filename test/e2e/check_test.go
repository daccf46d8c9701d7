package e2e

import (
	"strings"
	"testing"
)

// TestCheckSees: CHECK succeeds right after ADD and fails after each harm,
// with an error that is not "internal".
func TestCheckSees(t *testing.T) {
	tests := []struct {
		name string
		conf conf
		harm func(s *sandbox, r result)
	}{
		{"eth0 missing", network("web", web4), func(s *sandbox, r result) { s.run("ip", "link", "delete", "eth0") }},
		{"address missing", network("web", web4, web6), func(s *sandbox, r result) {
			s.run("ip", "addr", "del", r.addr("4")+"/24", "dev", "eth0")
		}},
		{"IPv6 address missing", network("web", web4, web6), func(s *sandbox, r result) {
			s.run("ip", "addr", "del", r.addr("6")+"/64", "dev", "eth0")
		}},
		{"default route missing", network("web", web4), func(s *sandbox, r result) { s.run("ip", "route", "del", "default") }},
		{"host end off its bridge", network("web", web4), func(s *sandbox, r result) {
			s.h.run("ip", "link", "set", r.Interfaces[1].Name, "nomaster")
		}},
		{"bridge without its gateway", network("web", web4), func(s *sandbox, r result) {
			s.h.run("ip", "addr", "flush", "dev", "br-web")
		}},
		{"rules flushed", network("web", web4, web6), func(s *sandbox, r result) { s.h.run("nft", "flush", "ruleset") }},
		{"hairpin off", network("web", web4).with("hairpinMode", true), func(s *sandbox, r result) {
			s.h.run("bridge", "link", "set", "dev", r.Interfaces[1].Name, "hairpin", "off")
		}},
		{"isolation off", network("web", web4).with("portIsolation", true), func(s *sandbox, r result) {
			s.h.run("bridge", "link", "set", "dev", r.Interfaces[1].Name, "isolated", "off")
		}},
		{"macvlan: eth0 missing", lan("web", web4), func(s *sandbox, r result) { s.run("ip", "link", "delete", "eth0") }},
		{"macvlan: another link is eth0", lan("web").with("ipam", map[string]any{}).with("isDefaultGateway", false), func(s *sandbox, r result) {
			s.run("ip", "link", "set", "eth0", "name", "moved0")
			s.run("ip", "link", "add", "eth0", "address", r.Interfaces[0].Mac, "type", "veth", "peer", "name", "peer0")
		}},
		{"macvlan: address missing", lan("web", web4, web6), func(s *sandbox, r result) {
			s.run("ip", "addr", "del", r.addr("6")+"/64", "dev", "eth0")
		}},
		{"macvlan: default route missing", lan("web", web4), func(s *sandbox, r result) { s.run("ip", "route", "del", "default") }},
		{"macvlan: mode changed", lan("web", web4), func(s *sandbox, r result) {
			s.run("ip", "link", "set", "eth0", "type", "macvlan", "mode", "private")
		}},
		{"macvlan: shim gone", lan("web", web4).with("host-access", true), func(s *sandbox, r result) { s.h.run("ip", "link", "del", s.h.shim()) }},
		{"macvlan: shim's peer gone", lan("web", web4).with("host-access", true), func(s *sandbox, r result) {
			s.h.run("ip", "route", "del", r.addr("4"), "dev", s.h.shim())
		}},
		{"macvlan: shim's filter flushed", lan("web", web4).with("host-access", true), func(s *sandbox, r result) { s.h.run("nft", "flush", "ruleset") }},
		{"macvlan: policy flushed", lan("web", web4).with("policy", []any{"deny egress tcp 25"}), func(s *sandbox, r result) { s.run("nft", "flush", "ruleset") }},
		{"reservation missing", network("web", web4), func(s *sandbox, r result) {
			// As when the allocator's directory was wiped: releasing through
			// the IPAM plugin is the public way to lose a reservation.
			c := network("web", web4).with("type", s.h.ipamType())
			if _, err := s.h.cni(c, call{verb: "DEL", id: s.id, netns: s.path, ifname: "eth0"}); err != nil {
				s.h.t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := hostOf(t, tt.conf)
			s := h.sandbox("a")
			r := s.add(tt.conf)
			if err := s.check(tt.conf, r); err != nil {
				t.Fatalf("CHECK right after ADD: %v", err)
			}
			tt.harm(s, r)
			err := s.check(tt.conf, r)
			if got := code(err); got < 100 || got == 999 {
				t.Errorf("CHECK: %v, want an error of 100 or above that says what differs", err)
			}
			s.del(tt.conf, r)
		})
	}
}

// ipamType is the type of the IPAM plugin that network uses.
func (h *host) ipamType() string {
	if reference() {
		return "host-local"
	}
	return "bowline-ipam"
}

// TestCheckTolerates: what later plugins of a chain do is none of our business.
func TestCheckTolerates(t *testing.T) {
	for _, k := range kinds() {
		tests := []struct {
			name   string
			conf   conf
			change func(s *sandbox)
		}{
			{"another MAC", k.network("web", web4), func(s *sandbox) { s.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:01") }},
			{"promiscuous", k.network("web", web4), func(s *sandbox) { s.run("ip", "link", "set", "eth0", "promisc", "on") }},
			{"a route more", k.network("web", web4), func(s *sandbox) { s.run("ip", "route", "add", "172.20.0.0/16", "via", "10.1.0.1") }},
			{"a route in another table", k.network("web", web4), func(s *sandbox) {
				s.run("ip", "route", "add", "default", "via", "10.1.0.1", "table", "100")
			}},
			{"an address more", k.network("web", web4), func(s *sandbox) { s.run("ip", "addr", "add", "172.20.0.1/32", "dev", "eth0") }},
			{"another container came", k.network("web", web4), func(s *sandbox) { s.h.sandbox("b").add(k.network("web", web4)) }},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				s := h.sandbox("a")
				r := s.add(tt.conf)
				tt.change(s)
				err := s.check(tt.conf, r)
				if tt.name == "another MAC" && tt.conf["host-access"] == true { // the host cannot know, and repair tells it
					if code(err) != 102 {
						t.Errorf("CHECK of a container whose MAC the host does not know: %v, want code 102", err)
					}
				} else if err != nil {
					t.Errorf("CHECK: %v", err)
				}
			})
		}
	}
}

// TestCheckWithoutAddresses: the reference's CHECK fails on L2-only networks.
func TestCheckWithoutAddresses(t *testing.T) {
	l2 := network("web").with("isGateway", false).with("isDefaultGateway", false).with("ipMasq", false)
	delete(l2, "ipam")
	tests := []struct {
		name string
		conf conf
		up   bool
	}{
		{"no ipam", l2, true},
		{"empty ipam", l2.with("ipam", map[string]any{}), true},
		{"macvlan, no ipam", lan("web").with("ipam", map[string]any{}).with("isDefaultGateway", false), true},
		{"disableContainerInterface", l2.with("disableContainerInterface", true), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := hostOf(t, tt.conf)
			s := h.sandbox("a")
			r := s.add(tt.conf)
			if up := strings.Contains(s.run("ip", "-o", "link", "show", "eth0"), ",UP"); up != tt.up {
				t.Errorf("eth0 up: %v, want %v", up, tt.up)
			}
			if err := s.check(tt.conf, r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			s.del(tt.conf, r)
			h.expectNoEndpoint()
		})
	}
}
