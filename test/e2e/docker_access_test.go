package e2e

import (
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/bowline-net/bowline/internal/netns"
)

// beyond returns the machine beyond the host.
func (h *machine) beyond() *sandbox {
	h.t.Helper()
	return h.as("outside", filepath.Join(h.dir, "netns", "outside"))
}

// inContainer returns a container's sandbox.
func (h *dockerHost) inContainer(name string) *sandbox {
	h.t.Helper()
	return h.as(name, filepath.Join("/proc", strconv.Itoa(h.pid), "root/proc", strconv.Itoa(h.containerPID(name)), "ns/net"))
}

// as returns the sandbox with that namespace, which is not the test's to remove.
func (h *machine) as(id, path string) *sandbox {
	h.t.Helper()
	ns, err := netns.Open(path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { ns.Close() })
	return &sandbox{h: h.host, id: id, path: path, ns: ns}
}

// asks fails the test unless an answer is what is wanted.
func (s *sandbox) asks(addr string, want bool) {
	s.h.t.Helper()
	if _, err := s.ask(addr); (err == nil) != want {
		s.h.t.Errorf("%s asks %s: %v; want an answer: %v", s.id, addr, err, want)
	}
}

// dockerDirect: what of containers can be reached at their own addresses from
// beyond the host, which has a route to them.
func dockerDirect(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker 20.10 lets everybody in")
	}
	const key = "com.docker.network.bridge."
	out := h.beyond()
	var wg sync.WaitGroup
	for i, tt := range []struct {
		mode        string
		asks, pings bool
	}{{"", false, false}, {"nat-unprotected", true, true}, {"routed", false, true}} {
		net4, net6 := "10.9"+strconv.Itoa(i)+".0", "fd9"+strconv.Itoa(i)+":"
		args := []string{"--ipv6", "--subnet", net4 + ".0/24", "--subnet", net6 + ":/64"}
		if tt.mode != "" {
			args = append(args, "-o", key+"gateway_mode_ipv4="+tt.mode, "-o", key+"gateway_mode_ipv6="+tt.mode)
		}
		h.network("net"+tt.mode, args...)
		name := "c-" + tt.mode
		h.container(name, "--network", "net"+tt.mode)
		p := h.place(name, "net"+tt.mode)
		if tt.mode != "routed" {
			h.mustReach(name, outside4)
		}
		c := h.inContainer(name)
		for _, addr := range []string{p.IPAddress, p.GlobalIPv6Address} {
			via := "192.0.2.1"
			if isIPv6(addr) {
				via = "2001:db8::1"
			}
			out.run("ip", "route", "replace", addr, "via", via)
			c.serve(at(addr, "80"))
			wg.Go(func() { out.asks(at(addr, "80"), tt.asks) })
			wg.Go(func() {
				if got := out.reaches(addr); got != tt.pings {
					h.t.Errorf("mode %q: the outside reaches %s: %v, want %v", tt.mode, addr, got, tt.pings)
				}
			})
		}
	}
	wg.Wait()
	out.run("ip", "route", "flush", "via", "192.0.2.1")
	out.run("ip", "-6", "route", "flush", "via", "2001:db8::1")
}

// dockerIsolated: a network of which the host has no part.
func dockerIsolated(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker 20.10 has no gateway modes")
	}
	const key = "com.docker.network.bridge."
	isolated := []string{"-o", key + "gateway_mode_ipv4=isolated", "-o", key + "gateway_mode_ipv6=isolated", "-o", key + "name=apart",
		"--ipv6", "--subnet", "10.96.0.0/24", "--subnet", "fd96::/64"}
	out, err := h.tryCLI(append(append([]string{"network", "create", "-d", dockerDriver()}, isolated...), "apart")...)
	if err == nil || !strings.Contains(out, `want internal="true" with it`) {
		h.t.Errorf("isolated but not internal: %v %s", err, out)
	}
	h.network("apart", append(isolated, "--internal")...)
	h.container("c1", "--network", "apart")
	h.container("c2", "--network", "apart")
	c2 := h.place("c2", "apart")
	h.mustReach("c1", c2.IPAddress, c2.GlobalIPv6Address)
	if got := h.sh("ip -o addr show dev apart"); got != "" {
		h.t.Errorf("the host has addresses on the bridge: %s", got)
	}
}

// followInstall follows the guide up to the plugin that runs. Other tests follow
// the sections of others.
func (h *dockerHost) followInstall(others ...string) *guide {
	h.t.Helper()
	if reference() {
		return nil
	}
	h.sh("ln -sf " + h.docker + " /usr/local/bin/docker")
	h.cli("tag", "bb:1", "busybox")
	g := h.guide("docker.md", others...)
	g.run["systemctl daemon-reload"] = func() {}
	g.run["systemctl enable --now bowline-bridge.socket bowline-bridge.service"] = h.startPlugin
	g.run["systemctl enable --now bowline-ipam.socket bowline-ipam.service"] = func() {
		h.start("ipam", bin("bowline-ipam"), "serve")
		h.eventually("ipam", h.listens("/run/docker/plugins/bowline-ipam.sock"))
	}
	g.follow(h.t, "Install")
	return g
}

func dockerGuide(h *dockerHost, g *guide) {
	if g == nil {
		h.t.Skip("the guide is ours")
	}
	g.follow(h.t, "Networks", "Ports", "Addresses of ours")
	h.removeAll()
	h.stop("ipam", "TERM")
}
