package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quickly has the server ask for renewals after three seconds: an option that it
// sends as it is told, whatever the lease time.
func quickly(more ...string) []string {
	return append([]string{dhcpRange, "--dhcp-option=option:T1,3"}, more...)
}

// acks returns how often the server has said yes to the address.
func (h *dhcpHost) acks(addr string) int {
	text, err := os.ReadFile(filepath.Join(h.dir, "server.log"))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Count(string(text), "DHCPACK(lan0) "+addr+" ")
}

// renewed waits until the server has said yes once more.
func (h *dhcpHost) renewed(addr string) {
	h.t.Helper()
	had := h.acks(addr)
	h.await("renewal of "+addr, 30*time.Second, func() error {
		if h.acks(addr) == had {
			return fmt.Errorf("still %d times", had)
		}
		return nil
	})
}

// TestDHCPRenews: a lease is renewed, also by a daemon that was killed and
// started again, and after the server was away.
func TestDHCPRenews(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t, quickly()...)
	c := dhcpNetwork()
	s := h.sandbox("a")
	r := s.add(c)
	h.renewed(r.addr("4"))
	kill(h.daemon, os.Kill)
	h.startDaemon()
	h.renewed(r.addr("4"))
	kill(h.server, syscall.SIGTERM)
	h.await("failed renewal", 30*time.Second, func() error {
		if !strings.Contains(h.tail("daemon"), "lease not renewed") {
			return fmt.Errorf("not tried")
		}
		return nil
	})
	h.startServer(quickly()...)
	h.renewed(r.addr("4"))
	if err := s.check(c, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if !s.reaches(dhcpRouter) {
		t.Error("the router is not reached any more")
	}
	s.del(c, r)
	h.await("release", 5*time.Second, h.nothingLeased)
}

// TestDHCPRebinds: another server answers in place of the one that gave the lease.
func TestDHCPRebinds(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t, quickly("--dhcp-option=option:T2,6")...)
	s := h.sandbox("a")
	r := s.add(dhcpNetwork())
	kill(h.server, os.Kill)
	h.lan.run("ip", "addr", "delete", dhcpRouter+"/24", "dev", "lan0")
	h.lan.run("ip", "addr", "add", "10.9.0.2/24", "dev", "lan0")
	h.startServer(quickly("--dhcp-option=option:T2,6")...)
	h.renewed(r.addr("4"))
	h.await("the other router", 10*time.Second, func() error {
		if routes := s.run("ip", "route"); !strings.Contains(routes, "default via 10.9.0.2 ") {
			return fmt.Errorf("routes are %s", routes)
		}
		return nil
	})
	s.del(dhcpNetwork(), r)
	h.await("release", 5*time.Second, h.nothingLeased)
}

// TestDHCPAddressChanges: the LAN is given other addresses. The link gets one,
// with the routes; CHECK and repair know.
func TestDHCPAddressChanges(t *testing.T) {
	t.Parallel()
	for _, plugin := range []string{"bowline-bridge", "bridge"} {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			h := newDHCPHost(t, quickly()...)
			c := dhcpNetwork().with("type", plugin)
			s := h.sandbox("a")
			r := s.add(c)
			kill(h.server, syscall.SIGTERM)
			if err := os.Remove(h.leaseFile()); err != nil {
				t.Fatal(err)
			}
			h.startServer("--dhcp-range=10.10.0.100,10.10.0.199,255.255.255.0,2m", "--dhcp-option=option:T1,3")
			got := h.mustHave(s, 40*time.Second, "another address", func(a string) bool { return strings.HasPrefix(a, "10.10.0.1") })
			h.await("routes", 5*time.Second, func() error {
				if routes := s.run("ip", "route"); !strings.Contains(routes, "default via 10.10.0.1 ") || strings.Contains(routes, "10.9.0.") {
					return fmt.Errorf("routes are %s", routes)
				}
				return nil
			})
			if !s.reaches(dhcpRouter) { // through the other router address
				t.Error("what is beyond the router is not reached")
			}
			if plugin == "bowline-bridge" {
				if err := s.check(c, r); err != nil {
					t.Errorf("CHECK after the address changed: %v", err)
				}
				if out, err := h.try(bin("bowline-bridge"), "diff"); err != nil {
					t.Errorf("diff finds something: %v: %s", err, out)
				}
			}
			s.del(c, r)
			h.await("release", 5*time.Second, func() error {
				if left := h.leased(); len(left) > 0 {
					return fmt.Errorf("the server has leased %v, %s among it", left, got)
				}
				return nil
			})
		})
	}
}

// TestDHCPExpires: a lease that nobody renews ends, and so does the address; and
// when the server is back there is one again. dnsmasq gives two minutes at least:
// busybox has a server that gives less.
func TestDHCPExpires(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	kill(h.server, syscall.SIGTERM)
	h.startUDHCPD()
	c := dhcpNetwork()
	s := h.sandbox("a")
	r := s.add(c)
	kill(h.server, os.Kill)
	h.await("the end of the lease", 60*time.Second, func() error {
		if got := s.addrsOf("eth0"); len(got) > 0 {
			return fmt.Errorf("eth0 has %v", got)
		}
		return nil
	})
	if routes := s.run("ip", "route"); strings.Contains(routes, "default") {
		t.Errorf("a route is left: %s", routes)
	}
	if err := s.check(c.with("type", "bowline-dhcp"), r); code(err) != 102 {
		t.Errorf("CHECK of a lease that has expired: %v, want code 102", err)
	}
	h.startServer()
	h.mustHave(s, 60*time.Second, "an address again", func(a string) bool { return strings.HasPrefix(a, "10.9.0.1") })
	h.await("routes", 5*time.Second, func() error {
		if !s.reaches("10.10.0.1") {
			return fmt.Errorf("the router is not reached: %s", s.run("ip", "route"))
		}
		return nil
	})
	s.del(c, r)
	h.await("release", 5*time.Second, h.nothingLeased)
}

// startUDHCPD runs a server whose leases last 15 s.
func (h *dhcpHost) startUDHCPD() {
	h.t.Helper()
	config := filepath.Join(h.dir, "udhcpd.conf")
	text := "start 10.9.0.20\nend 10.9.0.99\ninterface lan0\nmax_leases 80\nmin_lease 10\nlease_file " + h.dir + "/udhcpd.leases\npidfile " + h.dir +
		"/udhcpd.pid\nopt subnet 255.255.255.0\nopt router " + dhcpRouter + "\nopt lease 15\n"
	for name, text := range map[string]string{config: text, h.dir + "/udhcpd.leases": ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.server = h.background(h.lan.ns, "server", "busybox", "udhcpd", "-f", config)
}

// TestDHCPConflict: somebody has the address that the server gives. It is
// declined, and the next one used.
func TestDHCPConflict(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t, "--dhcp-range=10.9.0.100,10.9.0.109,255.255.255.0,2m", "--dhcp-sequential-ip")
	squatter := h.sandbox("squatter")
	h.run("ip", "link", "add", "port1", "master", "br-web", "type", "veth", "peer", "name", "eth0", "netns", squatter.path)
	t.Cleanup(func() { h.try("ip", "link", "delete", "port1") })
	h.run("ip", "link", "set", "port1", "up")
	squatter.run("ip", "addr", "add", "10.9.0.100/24", "dev", "eth0")
	squatter.run("ip", "link", "set", "eth0", "up")
	c := dhcpNetwork().ipam("acd", true)
	s := h.sandbox("a")
	r := s.add(c)
	if got := r.addr("4"); got == "10.9.0.100" || !strings.HasPrefix(got, "10.9.0.10") {
		t.Errorf("got %s; want another one of the range than 10.9.0.100, which is taken", got)
	}
	if text, _ := os.ReadFile(filepath.Join(h.dir, "server.log")); !strings.Contains(string(text), "DHCPDECLINE(lan0) 10.9.0.100") {
		t.Error("the server was not told")
	}
	s.del(c, r)
}

// TestDHCPKeepsName: who follows under the same name is the same to the server.
func TestDHCPKeepsName(t *testing.T) {
	t.Parallel()
	id := "00" // the type
	for _, c := range []byte("web/shop/db-0/eth0") {
		id += fmt.Sprintf(":%02x", c)
	}
	h := newDHCPHost(t, dhcpRange, "--dhcp-host=id:"+id+",10.9.0.150")
	const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0"
	c := dhcpNetwork()
	a, b := h.sandbox("a"), h.sandbox("b")
	first, err := a.tryAddAs(c, "eth0", args)
	if err != nil {
		t.Fatal(err)
	}
	// While the first one lives the second is somebody else.
	second, err := b.tryAddAs(c, "eth0", args)
	if err != nil || first.addr("4") != "10.9.0.150" || second.addr("4") == "10.9.0.150" {
		t.Fatalf("they have %s and %s, %v; want 10.9.0.150 and another", first.addr("4"), second.addr("4"), err)
	}
	a.del(c, first)
	b.del(c, second)
	again, err := h.sandbox("c").tryAddAs(c, "eth0", args)
	if err != nil || again.addr("4") != first.addr("4") {
		t.Errorf("got %s, %v; want %s again", again.addr("4"), err, first.addr("4"))
	}
	if err := h.gc(c, []string{}); err != nil {
		t.Error(err)
	}
}

// TestDHCPList: what people see.
func TestDHCPList(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	s := h.sandbox("a")
	r := s.add(dhcpNetwork())
	var row struct {
		Network, Endpoint, Server string
		Addresses                 []string
		Renews, Ends              int
	}
	if err := json.Unmarshal([]byte(h.run(bin("bowline-dhcp"), "list", "-json")), &row); err != nil {
		t.Fatal(err)
	}
	if row.Network != "web" || row.Endpoint != "a/eth0" || row.Server != dhcpRouter || len(row.Addresses) != 1 || row.Renews < 30 || row.Ends < 100 {
		t.Errorf("list prints %+v", row)
	}
	if out := h.run(bin("bowline-dhcp"), "list"); !strings.Contains(out, r.addr("4")+"/24") {
		t.Errorf("list prints %s", out)
	}
	s.del(dhcpNetwork(), r)
}

// TestDHCPWrongKeys: what is wrong in the section is said before anything is
// done.
func TestDHCPWrongKeys(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	for _, tt := range []struct {
		key   string
		value any
		want  string
	}{
		{"ipv6", "yes", `network "web": ipam: ipv6="yes": want one of the words auto, dhcp, slaac, off`},
		{"hostnme", "x", `network "web": ipam: hostnme="x": want another key, perhaps hostname`},
		{"timeout", 0, `network "web": ipam: timeout=0: want SECONDS, 1 to 300`},
		{"priority", -1, `network "web": ipam: priority=-1: want 0 or more`},
		{"provide", []any{map[string]any{"option": "hostname"}}, `network "web": ipam: provide[0].option="hostname": want a number, 1 to 254, or one of dhcp-client-identifier, host-name, routers, subnet-mask, user-class, vendor-class-identifier`},
		{"request", []any{map[string]any{"option": "256"}}, `network "web": ipam: request[0].option="256": want a number, 1 to 254, or one of dhcp-client-identifier, host-name, routers, subnet-mask, user-class, vendor-class-identifier`},
		{"suppress", []any{"dns"}, `network "web": ipam: suppress="dns": want ["gateway"] or nothing`},
		{"ipv4", false, `network "web": ipam: ipv4=false and ipv6="off": want one family at least`},
	} {
		out, err := h.cni(dhcpNetwork().with("type", "bowline-dhcp").ipam(tt.key, tt.value), call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0"})
		var e cniError
		if json.Unmarshal(out, &e) != nil || e.Code != 7 || e.Msg != tt.want {
			t.Errorf("%s=%v: %v\n got %s\nwant code 7, %s", tt.key, tt.value, err, e.Msg, tt.want)
		}
	}
}
