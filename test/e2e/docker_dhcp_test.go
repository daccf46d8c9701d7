package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDockerDHCP: containers of Docker get addresses of the LAN's server, keep
// them when they start again, and give them back.
func TestDockerDHCP(t *testing.T) {
	t.Parallel()
	h := newDockerHost(t)
	l := &dhcpHost{host: h.host}
	l.wireLAN()
	l.startServer(quickly()...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("daemon:\n%s\nplugin:\n%s", h.log("dhcp"), h.log("plugin"))
		}
	})
	h.startPlugin()
	create := []string{"network", "create", "-d", "bowline-bridge", "-o", "bridge=br-web", "-o", "dhcp=true"}
	if out, err := h.tryCLI(append(create, "with-pool")...); err == nil || !strings.Contains(out, "--ipam-driver null") {
		t.Errorf("a network with a pool: %v: %s; want an error that says --ipam-driver null", err, out)
	}
	h.cli(append(create, "--ipam-driver", "null", "lan")...)
	if out, err := h.tryCLI("run", "--rm", "--network", "lan", "bb:1", "true"); err == nil || !strings.Contains(out, "bowline-dhcp serve") {
		t.Errorf("without the daemon: %v: %s; want an error that says how to start it", err, out)
	}
	h.startDHCP()

	h.container("c1", "--network", "lan")
	first := h.place("c1", "lan")
	if !strings.HasPrefix(first.IPAddress, "10.9.0.1") || first.Gateway != dhcpRouter {
		t.Fatalf("Docker says %+v", first)
	}
	h.mustReach("c1", dhcpRouter, "10.10.0.1")
	if got := l.leased(); !slices.Equal(got, []string{first.IPAddress}) {
		t.Errorf("the server has leased %v, want %s", got, first.IPAddress)
	}

	// A restart is another endpoint, in another sandbox.
	h.container("c2", "--network", "lan", "--expose", "80")
	h.cli("restart", "-t", "0", "c1")
	if again := h.place("c1", "lan"); again.IPAddress != first.IPAddress || again.MacAddress != first.MacAddress {
		t.Errorf("after a restart %+v, want %+v", again, first)
	}
	h.mustReach("c1", dhcpRouter)

	// The daemon finds the link where Docker has put it.
	h.stop("dhcp", "KILL")
	kill(l.server, os.Kill)
	os.Remove(l.leaseFile())
	l.startServer("--dhcp-range=10.10.0.100,10.10.0.199,255.255.255.0,2m", "--dhcp-option=option:T1,3")
	h.startDHCP()
	h.eventually("dhcp", func() error {
		out, err := h.in(h.containerPID("c1"), "ip", "addr", "show", "eth0")
		if err == nil && (!strings.Contains(out, "inet 10.10.0.1") || strings.Contains(out, "inet 10.9.")) {
			return fmt.Errorf("eth0 has %s", out)
		}
		return err
	})
	h.mustReach("c1", "10.10.0.1")

	h.cli("rm", "-f", "c1", "c2")
	l.await("release", 30*time.Second, l.nothingLeased)
	h.cli("network", "rm", "lan")
	h.await(l)
}

// await waits until the daemon keeps nothing.
func (h *dockerHost) await(l *dhcpHost) {
	h.t.Helper()
	l.await("the end of the records", 10*time.Second, func() error {
		for _, r := range h.records() {
			if strings.HasPrefix(r, "run/dhcp/") {
				return fmt.Errorf("there is %s", r)
			}
		}
		return nil
	})
}

func (h *dockerHost) startDHCP() {
	h.t.Helper()
	h.start("dhcp", bin("bowline-dhcp"), "serve", "-log", "debug")
	h.eventually("dhcp", h.listens(h.dir+"/run/dhcp.sock"))
}
