package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMacvlanResult: one interface, in the sandbox, and what IPAM says of DNS
// unless the network says it.
func TestMacvlanResult(t *testing.T) {
	static := map[string]any{"type": "static", "addresses": []any{map[string]any{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}},
		"routes": []any{map[string]any{"dst": "0.0.0.0/0"}}, "dns": map[string]any{"nameservers": []string{"10.1.0.53"}, "domain": "ipam"}}
	own := map[string]any{"nameservers": []string{"10.1.0.1"}, "domain": "net"}
	for _, tt := range []struct {
		name   string
		conf   conf
		mtu    int
		domain string
	}{
		{"our IPAM", lan("web", web4, web6).with("mtu", 1400).with("dns", own), 1400, "net"},
		{"host access", lan("web", web4, web6).with("host-access", true), 1500, ""},
		{"DNS of static", lan("web").with("ipam", static), 1500, "ipam"},
		{"DNS of the network", lan("web").with("ipam", static).with("dns", own), 1500, "net"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newLANHost(t)
			s := h.sandbox("a")
			r := s.add(tt.conf)
			if len(r.Interfaces) != 1 {
				t.Fatalf("%d interfaces, want eth0: %s", len(r.Interfaces), r.raw)
			}
			eth0 := r.Interfaces[0]
			if out := s.run("ip", "-o", "-d", "link", "show", "eth0"); eth0.Name != "eth0" || eth0.Sandbox != s.path || eth0.MTU != tt.mtu ||
				!strings.Contains(out, eth0.Mac) || !strings.Contains(out, fmt.Sprint("mtu ", tt.mtu)) || !strings.Contains(out, "macvlan mode bridge") {
				t.Errorf("the interface is %+v, in the sandbox there is %s", eth0, out)
			}
			for _, ip := range r.IPs {
				if ip.Interface == nil || *ip.Interface != 0 || ip.Gateway != ip.Address.Masked().Addr().Next() {
					t.Errorf("address %v is on interface %v with gateway %v", ip.Address, ip.Interface, ip.Gateway)
				}
			}
			if r.DNS.Domain != tt.domain {
				t.Errorf("dns is %+v, want domain %q", r.DNS, tt.domain)
			}
			for _, gateway := range []string{r.gateway("4"), outside4} { // by the default route
				if !s.reaches(gateway) {
					t.Errorf("no answer from %s", gateway)
				}
			}
			s.del(tt.conf, r)
			h.expectNoEndpoint()
		})
	}
}

// TestMacvlanConflists: configurations of the reference macvlan plugin work with
// only the type changed, and our IPAM in place of host-local, too.
func TestMacvlanConflists(t *testing.T) {
	files, err := filepath.Glob("testdata/conflists-macvlan/*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conflists: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, ipam := range []string{"as it is", "bowline-ipam"} {
			name := filepath.Base(file)
			t.Run(name+" ipam "+ipam, func(t *testing.T) {
				t.Parallel()
				c := firstPlugin(t, text).with("type", "bowline-macvlan")
				if in, _ := c["ipam"].(map[string]any); in["type"] == "host-local" && ipam != "as it is" {
					c = c.ipam("type", ipam)
				}
				h := newLANHost(t)
				out := h.outside()
				a := h.sandbox("a")
				r := a.add(c)
				if c["ipam"] == nil {
					a.run("ip", "addr", "add", "10.1.0.99/24", "dev", "eth0")
					if !a.reaches("10.1.0.1") {
						t.Error("the LAN does not answer on a network without IPAM")
					}
				}
				for _, ip := range r.IPs {
					if !out.reaches(ip.Address.Addr().String()) || !a.reaches(ip.Gateway.String()) {
						t.Errorf("the LAN and the container at %v do not reach each other", ip.Address)
					}
				}
				mode, _ := c["mode"].(string)
				if got := a.run("ip", "-d", "link", "show", "eth0"); mode != "" && !strings.Contains(got, "macvlan mode "+mode) {
					t.Errorf("eth0 is %s, want mode %s", got, mode)
				}
				if c["cniVersion"].(string) >= "0.4.0" {
					if err := a.check(c, r); err != nil {
						t.Errorf("CHECK: %v", err)
					}
				}
				a.del(c, r)
				h.expectNoEndpoint()
			})
		}
	}
}

// TestMacvlanStatus: without a parent that is up nobody can be attached.
func TestMacvlanStatus(t *testing.T) {
	t.Parallel()
	h := newLANHost(t)
	c := lan("web", web4)
	if err := h.status(c); err != nil {
		t.Errorf("STATUS with a parent that is up: %v", err)
	}
	for _, tt := range []struct {
		parent string
		code   int
		names  string
	}{{"eth7", 51, `option parent="eth7"`}, {"eth7.12", 51, `option parent="eth7.12"`}, {"down0", 51, "ip link set down0 up"}} {
		h.run("ip", "link", "add", "down0", "type", "veth", "peer", "name", "down1")
		err := h.status(c.with("master", tt.parent))
		if code(err) != tt.code || !strings.Contains(err.Error(), tt.names) {
			t.Errorf("STATUS with parent %s: %v, want code %d that names %s", tt.parent, err, tt.code, tt.names)
		}
		h.run("ip", "link", "del", "down0")
	}
	before := h.snapshot()
	s := h.sandbox("a")
	before["mount"] = h.mounts()
	if _, err := s.tryAdd(c.with("master", "eth7")); code(err) != 50 || !strings.Contains(fmt.Sprint(err), `option parent="eth7": want a link of the host`) {
		t.Errorf("ADD without a parent: %v", err)
	}
	if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
		t.Errorf("the failed ADD changed the host:\n%s", d)
	}
	h.run("ip", "link", "add", "par0", "type", "veth", "peer", "name", "par1")
	defer h.run("ip", "link", "del", "par0")
	h.run("ip", "link", "set", "par0", "up")
	c = c.with("master", "par0")
	r := s.add(c)
	h.run("ip", "link", "set", "par0", "down")
	if err := s.check(c, r); code(err) != 102 || !strings.Contains(err.Error(), "par0") {
		t.Errorf("CHECK with a parent that is down: %v, want code 102 that names it", err)
	}
	s.del(c, r)
}

// TestMacvlanSecond: as net1 beside a bridge's eth0, each comes and goes by
// itself; a chain in which it would make the same interface again is refused.
func TestMacvlanSecond(t *testing.T) {
	t.Parallel()
	h := newLANHost(t)
	s := h.sandbox("a")
	c, web := lan("lan", web4, web6).with("isDefaultGateway", false).with("host-access", true), network("web", "10.7.0.0/24")
	eth0 := s.add(web)
	before := h.snapshot()
	if _, err := s.tryAdd(c.with("prevResult", eth0.raw)); code(err) != 100 || !strings.Contains(err.Error(), "has a link of that name already") {
		t.Errorf("a chain of two plugins that make eth0: %v, want code 100", err)
	}
	if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
		t.Errorf("the failed ADD changed the host:\n%s", d)
	}
	if err := s.check(web, eth0); err != nil {
		t.Errorf("CHECK of eth0 after it: %v", err)
	}
	net1, err := s.tryAddAs(c, "net1", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"10.7.0.1", "10.1.0.1", "fd00:1::1", "10.1.0.254", "fd00:1::fe", outside4} {
		if !s.reaches(addr) {
			t.Errorf("no answer from %s", addr)
		}
	}
	call := call{verb: "CHECK", id: s.id, netns: s.path, ifname: "net1"}
	if _, err := h.cni(c.with("prevResult", net1.raw), call); err != nil {
		t.Errorf("CHECK of net1: %v", err)
	}
	call.verb = "DEL"
	if _, err := h.cni(c.with("prevResult", net1.raw), call); err != nil {
		t.Errorf("DEL of net1: %v", err)
	}
	if err := s.check(web, eth0); err != nil || !s.reaches("10.7.0.1") {
		t.Errorf("eth0 after net1 is gone: %v", err)
	}
	s.del(web, eth0)
}

// TestMacvlanIsApart: the plugin's own namespace has no container, and a parent
// that is in the container is not the host's.
func TestMacvlanIsApart(t *testing.T) {
	t.Parallel()
	h := newLANHost(t)
	s := h.sandbox("a")
	before := h.snapshot()
	_, err := h.cni(lan("web", web4), call{verb: "ADD", id: "a", netns: "/proc/self/ns/net", ifname: "eth0"})
	if code(err) != 8 || !strings.Contains(err.Error(), "is the namespace that the plugin runs in") {
		t.Errorf("ADD in the plugin's own namespace: %v, want code 8", err)
	}
	if d := diff(before, h.snapshot()); d != "" {
		t.Errorf("it changed the host:\n%s", d)
	}
	s.run("ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1")
	s.run("ip", "link", "set", "in0", "up")
	c := lan("inside", web4).with("master", "in0").with("linkInContainer", true)
	r := s.add(c)
	if err := s.check(c, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	s.del(c, r)
	if out := s.run("ip", "-o", "link", "show", "type", "macvlan"); out != "" {
		t.Errorf("left: %s", out)
	}
}
