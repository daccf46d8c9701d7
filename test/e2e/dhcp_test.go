package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestDHCP: a container on the LAN's bridge gets what the LAN's server gives, and
// gives it back.
func TestDHCP(t *testing.T) {
	t.Parallel()
	for _, plugin := range []string{"bowline-bridge", "bridge"} {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			h := newDHCPHost(t)
			c := dhcpNetwork().with("type", plugin)
			s := h.sandbox("a")
			r, err := s.tryAddAs(c, "eth0", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart_1")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(r.addr("4"), "10.9.0.1") || r.gateway("4") != dhcpRouter || !slices.Equal(r.DNS.Nameservers, []string{"10.9.0.53"}) || r.DNS.Domain != "lan.test" {
				t.Errorf("got %s", r.raw)
			}
			if !s.reaches(dhcpRouter) || !s.reaches("10.10.0.1") {
				t.Errorf("the router is not reached, or not what is beyond it:\n%s", s.run("ip", "route"))
			}
			if got := h.leased(); !slices.Equal(got, []string{r.addr("4")}) {
				t.Errorf("the server has leased %v, want %s", got, r.addr("4"))
			}
			if text, _ := os.ReadFile(h.leaseFile()); !strings.Contains(string(text), " cart-1 ") {
				t.Errorf("the server was not told the name: %s", text)
			}
			if err := s.check(c, r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			s.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
			if err := s.check(c.with("type", "bowline-dhcp"), r); code(err) != 102 {
				t.Errorf("CHECK without the address: %v, want code 102", err)
			}
			s.del(c, r)
			h.await("release", 5*time.Second, h.nothingLeased)
			s.del(c, r) // again
		})
	}
}

func (h *dhcpHost) nothingLeased() error {
	if got := h.leased(); len(got) > 0 {
		return fmt.Errorf("the server has leased %v", got)
	}
	return nil
}

// TestDHCPWithoutDaemon: nothing is half made, and errors name what is missing.
func TestDHCPWithoutDaemon(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	kill(h.daemon, os.Kill)
	s := h.sandbox("a")
	before := h.snapshot()
	_, err := s.tryAdd(dhcpNetwork())
	if code(err) != 11 || !strings.Contains(err.Error(), "bowline-dhcp serve") {
		t.Errorf("ADD: %v; want code 11 and the command that starts the daemon", err)
	}
	if err := h.status(dhcpNetwork()); code(err) != 50 || !strings.Contains(err.Error(), "bowline-dhcp serve") {
		t.Errorf("STATUS: %v; want code 50 and the command that starts the daemon", err)
	}
	if err := s.tryDel(dhcpNetwork(), s.path); err != nil {
		t.Errorf("DEL: %v", err)
	}
	if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
		t.Errorf("a failed ADD left:\n%s", d)
	}
}

// TestDHCPNoServer: the wait for a server ends, and leaves nothing.
func TestDHCPNoServer(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	kill(h.server, os.Kill)
	s := h.sandbox("a")
	_, err := s.tryAdd(dhcpNetwork().ipam("timeout", 1))
	if code(err) != 11 || !strings.Contains(err.Error(), "no DHCP server answered") {
		t.Errorf("ADD: %v; want code 11 and that there is no server", err)
	}
	if got := s.run("ip", "-o", "link"); strings.Contains(got, "eth0") {
		t.Errorf("a failed ADD left %s", got)
	}
	if got := strings.Join(h.records(), " "); strings.Contains(got, "dhcp/") {
		t.Errorf("a failed ADD left records %s", got)
	}
}

// TestDHCPCrowd: fifty at once.
func TestDHCPCrowd(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	c := dhcpNetwork()
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]string{}
	var sandboxes []*sandbox
	for i := range 50 {
		sandboxes = append(sandboxes, h.sandbox(fmt.Sprintf("c%d", i)))
	}
	each := func(f func(s *sandbox)) {
		for _, s := range sandboxes {
			all.Go(func() { f(s) })
		}
		all.Wait()
	}
	each(func(s *sandbox) {
		r, err := s.tryAdd(c)
		mu.Lock()
		defer mu.Unlock()
		if other := seen[r.addr("4")]; err != nil || other != "" {
			t.Errorf("%s has %q as %s has, %v", s.id, r.addr("4"), other, err)
		}
		seen[r.addr("4")] = s.id
	})
	if got := h.leased(); len(got) != 50 {
		t.Errorf("the server has leased %d addresses, want 50", len(got))
	}
	// Goroutines, not threads: those of the runtime and of its system calls.
	if n := entries(t, h.daemon.Process.Pid, "task"); n > 30 {
		t.Errorf("the daemon has %d threads for 50 leases", n)
	}
	kill(h.daemon, os.Kill)
	h.startDaemon()
	if got := strings.Count(h.run(bin("bowline-dhcp"), "list", "-json"), "\n"); got != 50 {
		t.Errorf("after it was killed the daemon keeps %d leases, want 50", got)
	}
	// A lease that waits holds nothing open, least of all a namespace.
	h.await("files to be closed", 10*time.Second, func() error {
		if n := entries(t, h.daemon.Process.Pid, "fd"); n > 20 {
			return fmt.Errorf("the daemon has %d files open for 50 leases", n)
		}
		return nil
	})
	each(func(s *sandbox) {
		if err := s.tryDel(c, s.path); err != nil {
			t.Errorf("DEL %s: %v", s.id, err)
		}
	})
	h.await("release", 10*time.Second, h.nothingLeased)
}

// entries returns how many threads ("task") or open files ("fd") a process has.
func entries(t *testing.T, pid int, what string) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, what))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestDHCPGC: leases of containers that are not valid go, and with a dead
// sandbox too: the server is told from the host.
func TestDHCPGC(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	a, b := h.sandbox("a"), h.sandbox("b")
	ra := a.add(dhcpNetwork())
	b.add(dhcpNetwork())
	b.end()
	if err := h.gc(dhcpNetwork(), []string{"a/eth0"}); err != nil {
		t.Fatal(err)
	}
	h.await("release", 5*time.Second, func() error {
		if got := h.leased(); !slices.Equal(got, []string{ra.addr("4")}) {
			return fmt.Errorf("the server has leased %v, want %s", got, ra.addr("4"))
		}
		return nil
	})
	if err := h.gc(dhcpNetwork(), []string{}); err != nil {
		t.Fatal(err)
	}
	h.await("release", 5*time.Second, h.nothingLeased)
}

// TestDHCPSandboxDies: nobody says DEL.
func TestDHCPSandboxDies(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	a := h.sandbox("a")
	a.add(dhcpNetwork().with("type", "bridge"))
	a.end()
	kill(h.daemon, os.Kill) // or half a minute might pass
	h.startDaemon()
	h.await("release", 5*time.Second, h.nothingLeased)
	h.await("record", 5*time.Second, func() error {
		if got := strings.Join(h.records(), " "); strings.Contains(got, "dhcp/") {
			return fmt.Errorf("there is %s", got)
		}
		return nil
	})
}

// TestDHCPCallerKilled: who asked is gone before there is an answer. Then so is
// what was asked for.
func TestDHCPCallerKilled(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	kill(h.server, os.Kill)
	s := h.sandbox("a")
	asked := func() error {
		if got := strings.Join(h.records(), " "); !strings.Contains(got, "run/dhcp/") {
			return fmt.Errorf("not asked yet: %s", got)
		}
		return nil
	}
	_, err := h.cni(dhcpNetwork(), call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0", started: func(kill func()) {
		h.await("the question", 10*time.Second, asked)
		kill()
	}})
	if err == nil {
		t.Fatal("ADD was to be killed")
	}
	h.await("its end", 10*time.Second, func() error {
		if asked() == nil {
			return fmt.Errorf("there is %v", h.records())
		}
		return nil
	})
	// The server has said yes already, and the address is being looked for.
	h.startServer()
	b := h.sandbox("b")
	_, err = h.cni(dhcpNetwork().ipam("acd", true), call{verb: "ADD", id: "b", netns: b.path, ifname: "eth0", started: func(kill func()) {
		h.await("the server's yes", 10*time.Second, func() error {
			if len(h.leased()) == 0 {
				return fmt.Errorf("nothing is leased")
			}
			return nil
		})
		kill()
	}})
	if err == nil {
		t.Fatal("ADD was to be killed")
	}
	h.await("release", 10*time.Second, h.nothingLeased)
	r := s.add(dhcpNetwork())
	s.del(dhcpNetwork(), r)
}

// TestDHCPMacvlan: what another plugin made on a link of the host, and took away
// with its sandbox; the server is told from that link.
func TestDHCPMacvlan(t *testing.T) {
	t.Parallel()
	h := newDHCPHost(t)
	h.run("ip", "link", "set", "port0", "nomaster")
	c := dhcpNetwork().with("type", "bowline-dhcp")
	for i := range 2 {
		s := h.sandbox(fmt.Sprintf("m%d", i))
		h.run("ip", "link", "add", "link", "port0", "name", "eth0", "netns", s.path, "type", "macvlan", "mode", "bridge")
		r := s.add(c)
		if !strings.HasPrefix(r.addr("4"), "10.9.0.1") || !strings.Contains(s.run("ip", "link", "show", "eth0"), ",UP") {
			t.Errorf("got %s", r.raw)
		}
		s.end()
		if err := s.tryDel(c, []string{s.path, ""}[i]); err != nil {
			t.Errorf("DEL: %v", err)
		}
		h.await("release", 5*time.Second, h.nothingLeased)
	}
}
