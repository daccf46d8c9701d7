package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// routerOf has the server say of the LAN what the words do, such as ra-only.
func routerOf(words string) []string {
	return []string{dhcpRange, "--enable-ra", "--dhcp-range=" + words, "--dhcp-option=option6:dns-server,[2001:db8:9::53]"}
}

// TestDHCPv6: what each word of ipv6 gives, by what the router says.
func TestDHCPv6(t *testing.T) {
	t.Parallel()
	const stateful, slaac, both = "2001:db8:9::100,2001:db8:9::1ff,64,2m", "2001:db8:9::,ra-only", "2001:db8:9::100,2001:db8:9::1ff,slaac,64,2m"
	byServer := func(a string) bool {
		return strings.HasPrefix(a, "2001:db8:9::1") && len(a) < len("2001:db8:9::1ff/64")+1
	}
	byKernel := func(a string) bool { return strings.HasPrefix(a, "2001:db8:9:") && strings.Contains(a, "ff:fe") }
	for _, tt := range []struct {
		name, router, word string
		want               []func(string) bool
	}{
		{"managed", stateful, "auto", []func(string) bool{byServer}},
		{"managed, by word", stateful, "dhcp", []func(string) bool{byServer}},
		{"prefix", slaac, "auto", []func(string) bool{byKernel}},
		{"prefix, by word", slaac, "slaac", []func(string) bool{byKernel}},
		{"both", both, "auto", []func(string) bool{byServer, byKernel}},
		{"both, by word", both, "dhcp", []func(string) bool{byServer}},
		{"off", both, "off", nil},
	} {
		for _, plugin := range []string{"bowline-bridge", "bridge"} {
			t.Run(tt.name+"/"+plugin, func(t *testing.T) {
				t.Parallel()
				h := newDHCPHost(t, routerOf(tt.router)...)
				c := dhcpNetwork().with("type", plugin).ipam("ipv6", tt.word)
				s := h.sandbox("a")
				if tt.word == "off" { // the kernel would take what the router says, as with the reference
					s.run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=0")
				}
				r := s.add(c)
				var got []string
				for _, ip := range r.IPs {
					if ip.Address.Addr().Is6() {
						got = append(got, ip.Address.String())
						if ip.Address.Bits() != 64 || !ip.Gateway.IsLinkLocalUnicast() {
							t.Errorf("%s has the gateway %s", ip.Address, ip.Gateway)
						}
					}
				}
				slices.SortFunc(got, func(a, b string) int { return len(a) - len(b) })
				if len(got) != len(tt.want) {
					t.Fatalf("got %q, want %d addresses: %s", got, len(tt.want), r.raw)
				}
				for i, is := range tt.want {
					if !is(got[i]) {
						t.Errorf("got %q, which is not how it should be", got)
					}
				}
				if plugin == "bridge" && slices.ContainsFunc(got, byKernel) { // it must not add again what the plugin adds
					if is := strings.TrimSpace(s.run("sysctl", "-n", "net.ipv6.conf.eth0.autoconf")); is != "0" {
						t.Errorf("autoconf is %s", is)
					}
				}
				if len(got) > 0 && !s.reaches(dhcpRouter6) {
					t.Errorf("the router is not reached:\n%s", s.run("ip", "-6", "route"))
				}
				if err := s.check(c, r); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				s.del(c, r)
				h.await("release", 5*time.Second, h.nothingLeased)
			})
		}
	}
}

// TestDHCPv6Only: no IPv4 is asked for, and what must be there is.
func TestDHCPv6Only(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t, routerOf("2001:db8:9::100,2001:db8:9::1ff,64,2m")...)
	c := dhcpNetwork().ipam("ipv4", false).ipam("ipv6", "dhcp")
	s := h.sandbox("a")
	r := s.add(c)
	if r.addr("4") != "" || !strings.HasPrefix(r.addr("6"), "2001:db8:9::1") {
		t.Errorf("got %s", r.raw)
	}
	s.del(c, r)
	h.await("release", 5*time.Second, h.nothingLeased)
	if _, err := h.sandbox("b").tryAdd(c.ipam("ipv6", "slaac").ipam("timeout", 3)); code(err) != 11 || !strings.Contains(err.Error(), "with a prefix to make addresses of") {
		t.Errorf("SLAAC without a prefix for it: %v", err)
	}
}

// TestDHCPv6None: where no router is, "auto" is soon done, and leaves the
// sandbox's settings as they were.
func TestDHCPv6None(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	c := dhcpNetwork().ipam("ipv6", "auto")
	s := h.sandbox("a")
	s.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
	r := s.add(c)
	if len(r.IPs) != 1 {
		t.Errorf("got %s", r.raw)
	}
	if got := strings.TrimSpace(s.run("sysctl", "-n", "net.ipv6.conf.eth0.disable_ipv6")); got != "1" {
		t.Errorf("disable_ipv6 is %s, want 1 as before", got)
	}
	s.del(c, r)
}

// TestDHCPv6Renews: with a daemon that was killed meanwhile.
func TestDHCPv6Renews(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t, quickly("--enable-ra", "--dhcp-range=2001:db8:9::100,2001:db8:9::1ff,64,2m")...)
	c := dhcpNetwork().ipam("ipv6", "dhcp")
	s := h.sandbox("a")
	r := s.add(c)
	kill(h.daemon, os.Kill)
	h.startDaemon()
	h.await("renewal of "+r.addr("6"), 100*time.Second, func() error {
		text, err := os.ReadFile(filepath.Join(h.dir, "server.log"))
		if err != nil {
			return err
		}
		if !strings.Contains(string(text), "DHCPRENEW(lan0)") || strings.Count(string(text), "DHCPREPLY(lan0) "+r.addr("6")) < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	s.del(c, r)
	h.await("release", 5*time.Second, h.nothingLeased)
}
