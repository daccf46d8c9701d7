package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// The host as the machine beyond it sees it.
const host4, host6 = "192.0.2.1", "2001:db8::1"

// serveUDP answers each datagram with the address of its sender.
func (s *sandbox) serveUDP(addr string) {
	s.h.t.Helper()
	var c net.PacketConn
	err := netns.Do(s.ns, func() (err error) {
		c, err = net.ListenPacket("udp", addr)
		return err
	})
	if err != nil {
		s.h.t.Fatal(err)
	}
	s.h.t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 16)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
		}
	}()
}

// askUDP returns the address that serveUDP saw.
func (s *sandbox) askUDP(addr string) (seen string, err error) {
	err = netns.Do(s.ns, func() error {
		c, err := net.Dial("udp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		for range 4 { // the first may be lost while a neighbour is being found
			c.SetDeadline(time.Now().Add(500 * time.Millisecond))
			b := make([]byte, 64)
			if _, err = c.Write([]byte("?")); err != nil {
				continue
			}
			var n int
			if n, err = c.Read(b); err == nil {
				seen = string(b[:n])
				return nil
			}
		}
		return err
	})
	return seen, err
}

// itself is the host as a sandbox that asks.
func (h *machine) itself() *sandbox {
	h.t.Helper()
	return h.as("host", fmt.Sprintf("/proc/%d/ns/net", h.pid))
}

// web runs a container whose web server, at port 80 and those of $MORE, tells
// callers their addresses.
func (h *dockerHost) web(name string, args ...string) {
	h.t.Helper()
	h.cli(append(append([]string{"run", "-d", "--name", name, "--stop-signal", "KILL"}, args...), "bb:1", "sh", "-c",
		`mkdir -p /www/cgi-bin && printf '#!/bin/sh\necho; echo $REMOTE_ADDR' >/www/cgi-bin/you && chmod 755 /www/cgi-bin/you && for p in $MORE; do httpd -h /www -p $p; done && exec httpd -f -h /www`)...)
	c := h.inContainer(name)
	defer c.ns.Close() // or the namespace would outlive its container
	eventually(h.t, func() error { _, err := c.get("127.0.0.1:80"); return err })
}

// get asks the web server of web who it sees.
func (s *sandbox) get(addr string) (seen string, err error) {
	err = netns.Do(s.ns, func() error {
		c, err := net.DialTimeout("tcp", addr, 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(c, "GET /cgi-bin/you HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		answer, err := io.ReadAll(c)
		words := strings.Fields(string(answer))
		if err == nil && len(words) == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		seen = strings.TrimPrefix(strings.Trim(words[len(words)-1], "[]"), "::ffff:")
		return nil
	})
	return seen, err
}

// mustSee fails the test unless the web server at addr sees the asker as want,
// or as anybody if want is "".
func (s *sandbox) mustSee(addr, want string) {
	s.h.t.Helper()
	seen, err := s.get(addr)
	if err != nil {
		s.h.t.Errorf("%s asks %s: %v", s.id, addr, err)
	} else if want != "" && seen != want {
		s.h.t.Errorf("%s asks %s and is seen as %s, want %s", s.id, addr, seen, want)
	}
}

// dockerPublish: what -p can say, from everywhere, by both families.
func dockerPublish(h *dockerHost) {
	h.network("ports", "--ipv6", "--subnet", "10.80.0.0/24", "--subnet", "fd80::/64")
	h.network("others", "--ipv6", "--subnet", "10.81.0.0/24", "--subnet", "fd81::/64")
	h.web("c1", "--network", "ports", "-p", "18080:80", "-p", "18053:53/udp", "-p", "127.0.0.1:18090:80", "-p", "[::1]:18091:80",
		"-p", "18100-18109:100-109", "-p", "80", "-p", "18200-18210:81", "-e", "MORE=81 105 109")
	c := h.inContainer("c1")
	c.serveUDP("[::]:53")
	out, host := h.beyond(), h.itself()

	// From beyond, who keeps its own address.
	out.mustSee(host4+":18080", "192.0.2.2")
	out.mustSee(host4+":18105", "192.0.2.2")
	if seen, err := out.askUDP(host4 + ":18053"); err != nil || strings.TrimPrefix(seen, "::ffff:") != "192.0.2.2" {
		h.t.Errorf("UDP from beyond is seen as %q, %v", seen, err)
	}
	if !reference() { // Docker 20.10 leaves IPv6 to a proxy, whose address is seen
		out.mustSee(at(host6, "18080"), "2001:db8::2")
		out.mustSee(at(host6, "18105"), "2001:db8::2")
		if seen, err := out.askUDP(at(host6, "18053")); err != nil || seen != "2001:db8::2" {
			h.t.Errorf("UDP from beyond by IPv6 is seen as %q, %v", seen, err)
		}
	}
	out.asks(host4+":18090", false)
	out.asks(at(host6, "18091"), false)

	// From the host, the container itself, its neighbour, and another network.
	h.container("c2", "--network", "ports")
	h.container("c3", "--network", "others")
	for _, s := range []*sandbox{host, c, h.inContainer("c2"), h.inContainer("c3")} {
		s.mustSee(host4+":18080", "")
		s.mustSee(at(host6, "18080"), "")
	}
	for _, addr := range []string{"127.0.0.1:18080", "[::1]:18080", "127.0.0.1:18090", "[::1]:18091", "127.0.0.1:18109"} {
		host.mustSee(addr, "")
	}
	if reference() {
		return
	}
	// The port that was chosen, the same for both families, and one of a range.
	random, ranged := h.published(80, 32768, 65535), h.published(81, 18200, 18210)
	out.mustSee(host4+":"+random, "192.0.2.2")
	out.mustSee(at(host6, random), "2001:db8::2")
	out.mustSee(host4+":"+ranged, "192.0.2.2")

	// Ten thousand in a row, which dockerd tells one by one, are one row again.
	h.web("many", "--network", "ports", "-p", "20000-29999:20000-29999", "-e", "MORE=27777")
	if list := h.sh(bin("bowline-bridge") + " list"); !strings.Contains(list, " 20000-29999->20000-29999/tcp ") {
		h.t.Errorf("want one row of ports: %s", list)
	}
	out.mustSee(host4+":27777", "192.0.2.2")
	out.mustSee(at(host6, "27777"), "2001:db8::2")
}

// published returns the host's port, of those from low to high, that our own
// list shows for a port of the container; docker ps cannot.
func (h *dockerHost) published(port, low, high int) string {
	h.t.Helper()
	list := h.sh(bin("bowline-bridge") + " list")
	for _, word := range strings.Fields(strings.ReplaceAll(list, ",", " ")) {
		from, to, ok := strings.Cut(word, "->")
		n, err := strconv.Atoi(from)
		if ok && err == nil && n >= low && n <= high && to == strconv.Itoa(port)+"/tcp" {
			return from
		}
	}
	h.t.Fatalf("no port for %d in\n%s", port, list)
	return ""
}

// dockerTaken: a port that somebody has is refused by the holder's name, and
// nothing is left of the container that asked for it.
func dockerTaken(h *dockerHost) {
	if reference() {
		h.t.Skip("messages are ours")
	}
	h.network("net", "--subnet", "10.82.0.0/24")
	h.web("c1", "--network", "net", "-p", "18080-18085:80-85")
	h.container("dockers", "--network", "bridge", "-p", "18090:80")
	h.start("listener", "busybox", "httpd", "-f", "-p", "127.0.0.1:18091", "-h", h.dir)
	h.eventually("listener", h.inside("sh", "-c", "until ss -ltn | grep -q 127.0.0.1:18091; do :; done").Run)
	id := h.cli("inspect", "-f", "{{.NetworkSettings.Networks.net.EndpointID}}", "c1")
	for _, tt := range []struct{ port, holder string }{
		{"18083", id[:12]},
		{"18080-18081", id[:12]},
		{"18090", "docker"}, // docker-proxy, or dockerd without it
		{"18091", "busybox"},
	} {
		out, err := h.tryCLI("run", "-d", "--name", "late", "--network", "net", "-p", tt.port+":"+strings.ReplaceAll(tt.port, "180", "90"), "bb:1", "sleep", "1000")
		if err == nil || !strings.Contains(out, tt.holder) || !strings.Contains(out, strings.Split(tt.port, "-")[0]) {
			h.t.Errorf("-p %s, which is taken: %v %s; want a message that names %s", tt.port, err, out, tt.holder)
		}
		h.cli("rm", "-f", "late")
	}
	h.beyond().mustSee(host4+":18080", "192.0.2.2")
	if list := h.sh(bin("bowline-bridge") + " list"); strings.Count(list, "10.82.0.") != 1 {
		h.t.Errorf("want one endpoint: %s", list)
	}
	h.stop("listener", "KILL")
}

// dockerPortsMove: of two networks one publishes; when it goes the other does.
func dockerPortsMove(h *dockerHost) {
	h.network("one", "--subnet", "10.84.0.0/24")
	h.network("two", "--subnet", "10.85.0.0/24")
	h.web("c1", "--network", "two", "-p", "18080:80")
	out := h.beyond()
	out.mustSee(host4+":18080", "192.0.2.2")
	h.cli("network", "connect", "one", "c1")
	out.mustSee(host4+":18080", "192.0.2.2")
	h.cli("network", "disconnect", "two", "c1")
	out.mustSee(host4+":18080", "192.0.2.2")
	h.cli("network", "connect", "two", "c1")
	h.cli("network", "disconnect", "one", "c1")
	out.mustSee(host4+":18080", "192.0.2.2")

	h.cli("stop", "-t", "0", "c1")
	out.asks(host4+":18080", false)
	h.cli("start", "c1")
	eventually(h.t, func() error { _, err := out.get(host4 + ":18080"); return err }) // its server takes a moment
	out.mustSee(host4+":18080", "192.0.2.2")
	h.cli("network", "disconnect", "two", "c1")
	out.asks(host4+":18080", false)
}

// dockerPortsSurvive: what is published stays so when the plugin or dockerd
// ends, comes back when the rules were lost, and goes with its container
// whatever dockerd forgets to say.
func dockerPortsSurvive(h *dockerHost) {
	if reference() {
		h.t.Skip("records are ours")
	}
	h.live = true
	h.stop("dockerd", "TERM")
	h.startDockerd()
	h.network("net", "--ipv6", "--subnet", "10.86.0.0/24", "--subnet", "fd86::/64")
	h.web("c1", "--network", "net", "-p", "18080:80", "-p", "80")
	out := h.beyond()
	random := h.published(80, 32768, 65535)
	works := func(when string) {
		h.t.Helper()
		for _, port := range []string{"18080", random} {
			out.mustSee(host4+":"+port, "192.0.2.2")
			out.mustSee(at(host6, port), "2001:db8::2")
		}
		if h.t.Failed() {
			h.t.Fatalf("%s\n%s", when, h.sh("nft list ruleset"))
		}
	}
	back := func() {
		h.t.Helper()
		eventually(h.t, func() error {
			var errs []error
			for _, port := range []string{"18080", random} {
				_, err4 := out.get(host4 + ":" + port)
				_, err6 := out.get(at(host6, port))
				errs = append(errs, err4, err6)
			}
			return errors.Join(errs...)
		})
	}
	works("at first")
	h.sh("nft delete table ip bowline; nft delete table ip6 bowline")
	back() // the plugin repairs it
	works("repaired")
	h.stop("dockerd", "KILL")
	works("without dockerd")
	h.stop("plugin", "KILL")
	works("without plugin and dockerd")
	h.sh("nft delete table ip bowline; nft delete table ip6 bowline")
	h.startPlugin()
	back() // it listens before it has brought all back
	works("with a new plugin, after the rules were flushed")
	h.startDockerd()
	works("with a new dockerd")
	// dockerd 29 revokes nothing now.
	h.cli("rm", "-f", "c1")
	out.asks(host4+":18080", false)
	h.web("c2", "--network", "net", "-p", "18080:80", "-p", random+":80")
	works("with another container")

	h.live = false
	h.stop("dockerd", "KILL")
	h.startDockerd() // and ends the containers, but does not say so
	h.cli("start", "c2")
	back() // its server takes a moment
	works("started again")

	// Without its record a container is known by its rules.
	h.stop("plugin", "KILL")
	if err := os.RemoveAll(filepath.Join(h.dir, "run")); err != nil && !errors.Is(err, os.ErrNotExist) {
		entries, _ := os.ReadDir(filepath.Join(h.dir, "run")) // it is mounted
		for _, e := range entries {
			os.RemoveAll(filepath.Join(h.dir, "run", e.Name()))
		}
	}
	h.startPlugin()
	works("without a record")
	h.cli("rm", "-f", "c2")
	out.asks(host4+":18080", false)
}
