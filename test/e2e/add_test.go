package e2e

import (
	"fmt"
	"strings"
	"testing"
)

const (
	web4, web6 = "10.1.0.0/24", "fd00:1::/64"
	db4, db6   = "10.2.0.0/24", "fd00:2::/64"
)

func TestAddAndDel(t *testing.T) {
	for _, k := range kinds() {
		tests := []struct {
			name    string
			subnets []string
		}{
			{"v4", []string{web4}},
			{"v6", []string{web6}},
			{"dual", []string{web4, web6}},
			{"several of each family", []string{web4, web6, "10.9.0.0/24", "fd00:9::/64"}},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				c := k.network("web", tt.subnets...)
				a, b := h.sandbox("a"), h.sandbox("b")
				ra, rb := a.add(c), b.add(c)
				if len(ra.IPs) != len(tt.subnets) {
					t.Fatalf("%d addresses, want %d: %s", len(ra.IPs), len(tt.subnets), ra.raw)
				}
				for i, ip := range rb.IPs {
					if !a.reaches(ip.Address.Addr().String()) {
						t.Errorf("a does not reach b at %v", ip.Address)
					}
					if got := fmt.Sprint(ip.Address.Masked()); got != tt.subnets[i] {
						t.Errorf("address %d is in %s, want %s", i, got, tt.subnets[i])
					}
					if !b.reaches(ip.Gateway.String()) {
						t.Errorf("b does not reach its gateway %v", ip.Gateway)
					}
				}
				a.del(c, ra)
				if out := a.run("ip", "-o", "link"); strings.Contains(out, "eth0") {
					t.Errorf("eth0 is still in the sandbox: %s", out)
				}
				b.del(c, rb)
				h.expectNoEndpoint()
			})
		}
	}
}

// expectNoEndpoint fails the test if a veth, a macvlan, an element keyed by an endpoint,
// or a record of one is there. What endpoints share may stay until GC.
func (h *host) expectNoEndpoint() {
	h.t.Helper()
	if out := h.run("ip", "-o", "link", "show", "type", "veth"); strings.TrimSpace(out) != "" && !strings.Contains(out, "up0") {
		h.t.Errorf("veth left: %s", out)
	}
	if out := h.run("ip", "-o", "link", "show", "type", "macvlan"); strings.TrimSpace(out) != "" {
		h.t.Errorf("macvlan left: %s", out)
	}
	for _, r := range h.records() {
		if strings.Contains(r, "endpoints/") {
			h.t.Errorf("record left: %s", r)
		}
	}
}

func TestAddResult(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	r := s.add(network("web", web4, web6).with("mtu", 1400).with("dns", map[string]any{"nameservers": []string{"10.1.0.1"}, "domain": "web"}))
	if len(r.Interfaces) != 3 {
		t.Fatalf("%d interfaces, want bridge, host end and eth0: %s", len(r.Interfaces), r.raw)
	}
	var links []struct {
		Ifname, Address string
		MTU             int
	}
	h.parse(&links, "ip", "-j", "link")
	host := map[string]string{}
	for _, l := range links {
		host[l.Ifname] = l.Address
	}
	for _, i := range r.Interfaces[:2] {
		if i.Sandbox != "" || host[i.Name] != i.Mac || i.MTU != 1400 {
			t.Errorf("interface %+v, want it on the host with its MAC %q and an MTU of 1400", i, host[i.Name])
		}
	}
	eth0 := r.Interfaces[2]
	if out := s.run("ip", "-o", "link", "show", "eth0"); eth0.Name != "eth0" || eth0.Sandbox != s.path || eth0.MTU != 1400 ||
		!strings.Contains(out, eth0.Mac) || !strings.Contains(out, "mtu 1400") {
		t.Errorf("third interface is %+v, in the sandbox there is %s", eth0, out)
	}
	for _, ip := range r.IPs {
		if ip.Interface == nil || *ip.Interface != 2 {
			t.Errorf("address %v is not on interface 2", ip.Address)
		}
	}
	if len(r.DNS.Nameservers) != 1 || r.DNS.Domain != "web" {
		t.Errorf("dns is %+v", r.DNS)
	}
	if fmt.Sprint(r.IPs[0].Gateway, r.IPs[1].Gateway) != "10.1.0.1 fd00:1::1" {
		t.Errorf("gateways are %v and %v, want the first address of each subnet", r.IPs[0].Gateway, r.IPs[1].Gateway)
	}
}

// TestIPv6IsReadyAtOnce: an address must not be tentative when ADD returns.
func TestIPv6IsReadyAtOnce(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		s := h.sandbox("a")
		r := s.add(k.network("web", web6))
		if out := s.run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "global"); strings.Contains(out, "tentative") {
			t.Errorf("address is tentative: %s", out)
		}
		s.serve("[" + r.addr("6") + "]:80")
		b := h.sandbox("b")
		b.add(k.network("web", web6))
		if _, err := b.ask("[" + r.addr("6") + "]:80"); err != nil {
			t.Errorf("first connection: %v", err)
		}
	})
}

func TestVersions(t *testing.T) {
	for _, k := range kinds() {
		for _, v := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			t.Run(k.name+"/"+v, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				s := h.sandbox("a")
				c := k.network("web", web4, web6).with("cniVersion", v)
				r := s.add(c)
				if r.CNIVersion != v {
					t.Errorf("result is of version %s, want %s", r.CNIVersion, v)
				}
				if wantVersion := v < "1.0.0"; (r.IPs[0].Version == "4") != wantVersion {
					t.Errorf("ips[0].version is %q in a result of %s", r.IPs[0].Version, v)
				}
				if v >= "0.4.0" {
					if err := s.check(c, r); err != nil {
						t.Errorf("CHECK right after ADD: %v", err)
					}
				} else if got := code(s.check(c, r)); got != 1 {
					t.Errorf("CHECK of %s: code %d, want 1", v, got)
				}
				if v < "1.1.0" {
					if got := code(h.status(c)); got != 1 {
						t.Errorf("STATUS of %s: code %d, want 1", v, got)
					}
				}
				s.del(c, r)
			})
		}
	}
}

func TestVersionVerb(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, plugin := range []string{"bowline-bridge", "bowline-macvlan", "bowline-ipam", "bowline-dhcp", "bowline-host"} {
		out, err := h.cniRaw(plugin, []byte(`{"cniVersion":"1.1.0"}`), call{verb: "VERSION"})
		if err != nil {
			t.Errorf("%s VERSION: %v", plugin, err)
		}
		for _, want := range []string{`"supportedVersions"`, `"0.3.0"`, `"0.3.1"`, `"0.4.0"`, `"1.0.0"`, `"1.1.0"`} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s VERSION printed %s, want it to hold %s", plugin, out, want)
			}
		}
	}
}

// TestMAC: a MAC can be asked for in three ways.
func TestMAC(t *testing.T) {
	for _, k := range kinds() {
		const mac = "02:11:22:33:44:55"
		tests := []struct {
			name string
			conf conf
			args string
		}{
			{"runtimeConfig", k.network("web", web4).with("runtimeConfig", map[string]any{"mac": mac}), ""},
			{"args", k.network("web", web4).with("args", map[string]any{"cni": map[string]any{"mac": mac}}), ""},
			{"CNI_ARGS", k.network("web", web4), "MAC=" + mac}, // the reference refuses this one
			{"CNI_ARGS of a CRI runtime", k.network("web", web4), "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;MAC=" + mac},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				s := h.sandbox("a")
				if _, err := s.tryAddAs(tt.conf, "eth0", tt.args); err != nil {
					t.Fatal(err)
				}
				if out := s.run("ip", "link", "show", "eth0"); !strings.Contains(out, mac) {
					t.Errorf("eth0 is %s, want MAC %s", out, mac)
				}
			})
		}
	}
}

// TestRequestedAddress: an address can be asked for in three ways, and is
// given to one container only.
func TestRequestedAddress(t *testing.T) {
	for _, k := range kinds() {
		tests := []struct {
			name string
			conf conf
			args string
		}{
			{"runtimeConfig", k.network("web", web4).with("runtimeConfig", map[string]any{"ips": []string{"10.1.0.77/24"}}), ""},
			{"args", k.network("web", web4).with("args", map[string]any{"cni": map[string]any{"ips": []string{"10.1.0.77"}}}), ""},
			{"CNI_ARGS", k.network("web", web4), "IgnoreUnknown=1;IP=10.1.0.77"},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				r, err := h.sandbox("a").tryAddAs(tt.conf, "eth0", tt.args)
				if err != nil {
					t.Fatal(err)
				}
				if got := r.addr("4"); got != "10.1.0.77" {
					t.Errorf("address is %s, want 10.1.0.77", got)
				}
				if _, err := h.sandbox("b").tryAddAs(tt.conf, "eth0", tt.args); err == nil {
					t.Error("the same address was given twice")
				}
			})
		}
	}
}

// TestRoutes: every key of a route of 1.1.0 ends up in the kernel.
func TestRoutes(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		s := h.sandbox("a")
		c := k.network("web", web4).ipam("routes", []any{
			map[string]any{"dst": "172.30.0.0/16", "gw": "10.1.0.1", "mtu": 1300, "advmss": 1200, "priority": 77},
			map[string]any{"dst": "172.31.0.0/16", "gw": "10.1.0.1", "table": 100},
			map[string]any{"dst": "172.29.0.0/16", "scope": 253},
		})
		r := s.add(c)
		for _, want := range []struct{ table, text string }{
			{"main", "172.30.0.0/16 via 10.1.0.1 dev eth0 metric 77 mtu 1300 advmss 1200"},
			{"100", "172.31.0.0/16 via 10.1.0.1 dev eth0"},
			{"main", "172.29.0.0/16 dev eth0 scope link"},
		} {
			got := strings.Join(strings.Fields(s.run("ip", "route", "show", "table", want.table)), " ")
			if !strings.Contains(got, want.text) {
				t.Errorf("table %s holds %q, want %q", want.table, got, want.text)
			}
		}
		if err := s.check(c, r); err != nil { // the reference fails once a route is in another table
			t.Errorf("CHECK right after ADD: %v", err)
		}
	})
}
