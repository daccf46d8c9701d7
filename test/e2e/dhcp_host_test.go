package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A dhcpHost is a host whose bridge br-web is a LAN: the machine "lan" beyond it
// is the router, and runs dnsmasq. The daemon that keeps leases runs on the host.
type dhcpHost struct {
	*host
	lan    *sandbox
	daemon *exec.Cmd
	server *exec.Cmd
}

const (
	dhcpRouter  = "10.9.0.1"
	dhcpRouter6 = "2001:db8:9::1"
	dhcpRange   = "--dhcp-range=10.9.0.100,10.9.0.199,255.255.255.0,2m"
)

// newDHCPHost returns a host with the daemon and the server running.
func newDHCPHost(t *testing.T, server ...string) *dhcpHost {
	t.Helper()
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		netnstest.Skip(t, "needs dnsmasq")
	}
	h := &dhcpHost{host: newHost(t)}
	h.wireLAN()
	h.startServer(server...)
	h.startDaemon()
	return h
}

// wireLAN makes the bridge and the router.
func (h *dhcpHost) wireLAN() {
	h.t.Helper()
	h.lan = h.sandbox("lan")
	h.run("ip", "link", "add", "br-web", "type", "bridge")
	h.run("ip", "link", "add", "port0", "master", "br-web", "type", "veth", "peer", "name", "lan0", "netns", h.lan.path)
	h.t.Cleanup(func() {
		h.try("ip", "link", "delete", "port0")
		h.try("ip", "link", "delete", "br-web")
	})
	for _, l := range []string{"br-web", "port0"} {
		h.run("ip", "link", "set", l, "up")
	}
	// A router's address is not looked at for a second before it may speak.
	h.lan.run("sysctl", "-qw", "net.ipv6.conf.lan0.accept_dad=0")
	for _, args := range [][]string{
		{"addr", "add", dhcpRouter + "/24", "dev", "lan0"}, {"addr", "add", "10.10.0.1/24", "dev", "lan0"},
		{"addr", "add", dhcpRouter6 + "/64", "dev", "lan0", "nodad"}, {"link", "set", "lan0", "up"},
	} {
		h.lan.run("ip", args...)
	}
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("daemon:\n%s\nserver:\n%s", h.tail("daemon"), h.tail("server"))
		}
	})
}

func (h *dhcpHost) tail(name string) string {
	b, _ := os.ReadFile(filepath.Join(h.dir, name+".log"))
	return string(b[max(0, len(b)-6000):])
}

// background starts a process in the namespace that ends with the test at the
// latest, and writes to a log.
func (h *dhcpHost) background(ns *netns.Handle, name string, args ...string) *exec.Cmd {
	h.t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := h.command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := netns.Do(ns, cmd.Start); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { kill(cmd, os.Kill) })
	return cmd
}

// kill ends the process, and waits for its end.
func kill(cmd *exec.Cmd, signal os.Signal) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Signal(signal)
		_ = cmd.Wait()
	}
}

// startServer runs dnsmasq with the ranges and options.
func (h *dhcpHost) startServer(args ...string) {
	h.t.Helper()
	if len(args) == 0 {
		args = []string{dhcpRange}
	}
	// no-ping: it would look for 3 s whether somebody has the address.
	h.server = h.background(h.lan.ns, "server", append([]string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0",
		"--interface=lan0", "--bind-interfaces", "--no-ping", "--dhcp-authoritative", "--log-dhcp", "--log-facility=-", "--user=root", "--pid-file=",
		"--dhcp-option=option:dns-server,10.9.0.53", "--domain=lan.test",
		"--dhcp-leasefile=" + h.leaseFile()}, args...)...)
	h.await("dnsmasq", 10*time.Second, func() error {
		if !strings.Contains(h.lan.run("ss", "-Hlun"), ":67 ") {
			return errors.New("does not listen")
		}
		return nil
	})
}

func (h *dhcpHost) leaseFile() string { return filepath.Join(h.dir, "leases") }

// leased returns the addresses that the server has leased.
func (h *dhcpHost) leased() []string {
	text, err := os.ReadFile(h.leaseFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	var all []string
	for l := range strings.Lines(string(text)) {
		// Expiry, MAC or IAID, address, name, client; "duid" and the server's.
		if f := strings.Fields(l); len(f) >= 4 {
			all = append(all, f[2])
		}
	}
	return all
}

// startDaemon starts the daemon and waits until it answers.
func (h *dhcpHost) startDaemon() {
	h.t.Helper()
	daemon := h.background(h.ns, "daemon", bin("bowline-dhcp"), "serve", "-log", "debug")
	h.daemon = daemon
	h.t.Cleanup(func() {
		kill(daemon, os.Interrupt)
		os.Remove(filepath.Join(h.dir, "run", "dhcp.sock")) // of one that was killed
	})
	h.await("the daemon", 10*time.Second, func() error { return h.status(dhcpNetwork()) })
}

// await polls until f returns nil.
func (h *dhcpHost) await(what string, limit time.Duration, f func() error) {
	h.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: still after %s: %v", what, limit, err)
		}
	}
}

// dhcpNetwork is one on the LAN's bridge. IPv6 is off unless it is said.
func dhcpNetwork() conf {
	return conf{"cniVersion": "1.1.0", "name": "web", "type": "bowline-bridge", "bridge": "br-web",
		"ipam": map[string]any{"type": "bowline-dhcp", "ipv6": "off", "acd": false}}
}

// addrsOf returns the addresses that the link of the sandbox has now, those of
// the link's scope left out.
func (s *sandbox) addrsOf(link string) []string {
	s.h.t.Helper()
	var all []string
	for l := range strings.Lines(s.run("ip", "-o", "addr", "show", "dev", link, "scope", "global")) {
		if f := strings.Fields(l); len(f) > 3 {
			all = append(all, f[3])
		}
	}
	slices.Sort(all)
	return all
}

// mustHave waits until the link eth0 of the sandbox has one address, which f
// accepts, and returns it.
func (h *dhcpHost) mustHave(s *sandbox, limit time.Duration, what string, f func(string) bool) string {
	h.t.Helper()
	var got string
	h.await(what, limit, func() error {
		all := s.addrsOf("eth0")
		if len(all) != 1 || !f(all[0]) {
			return fmt.Errorf("eth0 has %v", all)
		}
		got = all[0]
		return nil
	})
	return got
}
