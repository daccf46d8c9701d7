package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// A broken host has two containers, b with a connection that must survive, and
// a to whom the harm is done.
type brokenHost struct {
	*host
	a, b   *sandbox
	conf   conf
	result result // of a
	outer  string // a's end in the host
	line   *line  // b's
	// watcher is the process that repairs, if one does.
	watcher int
}

// A line is a TCP connection on which a word is sent and comes back.
type line struct {
	net.Conn
	in *bufio.Reader
}

// echo sends a word and reports whether it came back in ten seconds, within
// which TCP sends it again.
func (l *line) echo() error {
	if err := l.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(l, "word"); err != nil {
		return err
	}
	word, err := l.in.ReadString('\n')
	if err == nil && word != "word\n" {
		err = fmt.Errorf("got %q", word)
	}
	return err
}

// dial opens a line from the sandbox to addr in the other one.
func (s *sandbox) dial(to *sandbox, addr string) *line {
	s.h.t.Helper()
	var l net.Listener
	if err := netns.Do(to.ns, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}); err != nil {
		s.h.t.Fatal(err)
	}
	go func() {
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for in := bufio.NewReader(c); ; {
			word, err := in.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(c, word)
		}
	}()
	var c net.Conn
	if err := netns.Do(s.ns, func() (err error) {
		c, err = net.DialTimeout("tcp", addr, 5*time.Second)
		return err
	}); err != nil {
		s.h.t.Fatal(err)
	}
	s.h.t.Cleanup(func() { c.Close(); l.Close() })
	return &line{c, bufio.NewReader(c)}
}

func newBrokenHost(t *testing.T, c conf) *brokenHost {
	t.Helper()
	h := &brokenHost{host: newHost(t), conf: c}
	h.env = append(h.env, "XTABLES_LOCKFILE="+h.dir+"/xtables.lock") // that of the machine is everybody's
	out := h.outside()
	h.a, h.b = h.sandbox("a"), h.sandbox("b")
	h.result = h.a.add(c)
	h.b.add(c.withoutRuntimeConfig())
	h.outer = h.result.Interfaces[1].Name
	for _, addr := range []string{h.result.addr("4"), "[" + h.result.addr("6") + "]"} {
		h.a.serve(addr + ":80")
		h.a.serve(addr + ":81")
	}
	h.line = h.b.dial(out, "192.0.2.2:7")
	if err := h.line.echo(); err != nil {
		t.Fatal(err)
	}
	return h
}

// findings is what `bowline-bridge VERB -json` prints.
type findings []struct {
	Network, Container, Place, Key, Have, Want, Error string
	Repaired                                          bool
}

func (h *host) inspect(verb string) (fs findings, err error) {
	h.t.Helper()
	return h.inspectBy("bowline-bridge", verb)
}

func (h *host) inspectBy(plugin, verb string) (fs findings, err error) {
	h.t.Helper()
	out, err := h.try(bin(plugin), verb, "-json")
	for l := range strings.Lines(out) {
		var f findings
		if jerr := json.Unmarshal([]byte("["+l+"]"), &f); jerr != nil {
			h.t.Fatalf("%s prints %s", verb, out)
		}
		fs = append(fs, f...)
	}
	return fs, err
}

// whole returns what of the host is not as it should be.
func (h *brokenHost) whole() error {
	if fs, err := h.inspect("diff"); err != nil {
		return fmt.Errorf("%w: %+v", err, fs)
	}
	for _, addr := range []string{"192.0.2.2", "2001:db8::2", "10.1.0.3", "fd00:1::3"} {
		if !h.a.reaches(addr) {
			return fmt.Errorf("a does not reach %s", addr)
		}
	}
	if h.conf["runtimeConfig"] == nil {
		return nil
	}
	for _, addr := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
		if _, err := h.out.ask(addr); err != nil {
			return fmt.Errorf("a's published port: %w", err)
		}
	}
	if _, err := h.b.ask("10.1.0.2:81"); err == nil {
		return errors.New("a's policy lets b in")
	}
	return nil
}

// harms are done to the host, or to a's sandbox; the key and the place of a
// difference say that diff sees it.
var harms = []struct {
	name, key string
	conf      func(conf) conf
	do        func(h *brokenHost)
}{
	{"nft flush ruleset", "table", nil, func(h *brokenHost) { h.run("nft", "flush", "ruleset") }},
	{"nft delete table", "table", nil, func(h *brokenHost) { h.run("nft", "delete", "table", "ip", "bowline") }},
	{"nft flush chain", "rules", nil, func(h *brokenHost) { h.run("nft", "flush", "chain", "ip6", "bowline", "postrouting") }},
	{"element deleted", "element", nil, func(h *brokenHost) {
		h.run("nft", "delete", "element", "ip", "bowline", "masq", "{ br-web . 10.1.0.0/24 }")
	}},
	{"sender check deleted", "element", with("macspoofchk", true), func(h *brokenHost) {
		h.run("nft", "flush", "set", "bridge", "bowline", "allowed")
	}},
	{"nft flush ruleset, all in use", "table", fullConf, func(h *brokenHost) { h.run("nft", "flush", "ruleset") }},
	{"port deleted, all in use", "link OUTER", fullConf, func(h *brokenHost) { h.run("ip", "link", "del", h.outer) }},
	{"bridge deleted, all in use", "link br-web", fullConf, func(h *brokenHost) { h.run("ip", "link", "del", "br-web") }},
	{"policy deleted", "element", fullConf, func(h *brokenHost) {
		h.run("nft", "flush", "map", "bridge", "bowline", "policy-to")
	}},
	{"limit deleted", "limit out", fullConf, func(h *brokenHost) { h.run("tc", "qdisc", "del", "dev", h.outer, "root") }},
	{"iptables -F", "rule", nil, func(h *brokenHost) { h.iptablesFlush("iptables", "ip6tables") }},
	{"iptables-legacy -F", "rule", nil, func(h *brokenHost) { h.iptablesFlush("iptables-legacy", "ip6tables-legacy") }},
	{"iptables -t nat -F", "", nil, func(h *brokenHost) { h.run("iptables", "-t", "nat", "-F") }},
	{"bridge deleted", "link br-web", nil, func(h *brokenHost) { h.run("ip", "link", "del", "br-web") }},
	{"bridge down", "state", nil, func(h *brokenHost) { h.run("ip", "link", "set", "br-web", "down") }},
	{"bridge without addresses", "address", nil, func(h *brokenHost) { h.run("ip", "addr", "flush", "dev", "br-web") }},
	{"bridge without routes", "route", nil, func(h *brokenHost) {
		h.run("ip", "route", "flush", "dev", "br-web")
		h.run("ip", "-6", "route", "del", "fd00:1::/64", "dev", "br-web")
	}},
	{"port off its bridge", "master", nil, func(h *brokenHost) { h.run("ip", "link", "set", h.outer, "nomaster") }},
	{"port down", "state", nil, func(h *brokenHost) { h.run("ip", "link", "set", h.outer, "down") }},
	{"port deleted", "link OUTER", nil, func(h *brokenHost) { h.run("ip", "link", "del", h.outer) }},
	{"hairpin off", "hairpin", with("hairpinMode", true), func(h *brokenHost) {
		h.run("bridge", "link", "set", "dev", h.outer, "hairpin", "off")
	}},
	{"forwarding off", "net/ipv4/ip_forward", nil, func(h *brokenHost) {
		h.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
	}},
	{"container's link deleted", "link OUTER", nil, func(h *brokenHost) { h.a.run("ip", "link", "del", "eth0") }},
	{"container's link down", "state", nil, func(h *brokenHost) { h.a.run("ip", "link", "set", "eth0", "down") }},
	{"container's address", "address", nil, func(h *brokenHost) { h.a.run("ip", "addr", "flush", "dev", "eth0") }},
	{"container's link set otherwise", "txQLen", tunedConf, func(h *brokenHost) {
		h.a.run("ip", "link", "set", "eth0", "promisc", "off", "allmulticast", "off", "txqueuelen", "13")
	}},
	{"tuned link deleted", "link OUTER", tunedConf, func(h *brokenHost) { h.a.run("ip", "link", "del", "eth0") }},
	{"container's routes", "route", nil, func(h *brokenHost) {
		h.a.run("ip", "route", "del", "default")
		h.a.run("ip", "-6", "route", "del", "default")
	}},
}

// fullConf is a configuration with all that an endpoint can have.
func fullConf(c conf) conf {
	return c.with("macspoofchk", true).with("ingressRate", 100e6).with("egressRate", 100e6).
		with("policy", "allow ingress tcp 80; allow ingress icmp; deny ingress").
		ports(hostPort(8080, 80, "tcp", ""))
}

func tunedConf(c conf) conf {
	return c.with("promisc", true).with("allmulti", true).with("txQLen", 12)
}

func with(key string, value any) func(conf) conf {
	return func(c conf) conf { return c.with(key, value) }
}

// iptablesFlush empties the tables of a host whose FORWARD drops, as Docker's.
func (h *brokenHost) iptablesFlush(commands ...string) {
	for _, c := range commands {
		h.run(c, "-F")
	}
}

// dockerRules gives the host rules like Docker's.
func (h *brokenHost) dockerRules(commands ...string) {
	h.t.Cleanup(func() {
		h.try("nft", "delete", "table", "ip", "filter")
		h.try("nft", "delete", "table", "ip6", "filter")
	})
	for _, c := range commands {
		for _, args := range []string{"-P FORWARD DROP", "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-I FORWARD -j DOCKER-USER"} {
			h.run(c, strings.Fields(args)...)
		}
	}
}

func repairConf() conf { return network("web", web4, web6) }

// TestRepair: diff sees each harm, and repair makes it right once, or by itself
// while it watches. A connection of another container survives.
func TestRepair(t *testing.T) {
	for _, watch := range []bool{false, true} {
		for _, tt := range harms {
			t.Run(fmt.Sprintf("%s/watch=%v", tt.name, watch), func(t *testing.T) {
				t.Parallel()
				c := repairConf()
				if tt.conf != nil {
					c = tt.conf(c)
				}
				h := newBrokenHost(t, c)
				if commands, ok := strings.CutSuffix(tt.name, " -F"); ok && tt.key != "" {
					h.dockerRules(commands, strings.Replace(commands, "ip", "ip6", 1))
					if _, err := h.inspect("repair"); err != nil {
						t.Fatal(err)
					}
				}
				before := h.snapshot()
				if watch {
					h.watch()
				}
				start := time.Now()
				tt.do(h)
				if watch {
					eventually(t, func() error { _, err := h.inspect("diff"); return err })
					t.Logf("right again %s after the harm began", time.Since(start).Round(time.Millisecond))
					eventually(t, h.whole)
				} else {
					h.repairOnce(strings.ReplaceAll(tt.key, "OUTER", h.outer))
				}
				if err := h.line.echo(); err != nil {
					t.Errorf("b's connection: %v", err)
				}
				if d := diff(alike(before), alike(h.snapshot())); d != "" {
					t.Errorf("the host is not as it was before the harm:\n%s", d)
				}
				if err := h.a.check(c, h.result); err != nil {
					t.Errorf("CHECK: %v", err)
				}
			})
		}
	}
}

// alike leaves out what may be otherwise after a repair: elements come back
// in another order, and the kernel does not always make a subnet's anycast
// address again for a link that was down.
func alike(s snapshot) snapshot {
	delete(s, "nft")
	s["route"] = slices.DeleteFunc(s["route"], func(l string) bool { return strings.HasPrefix(l, "anycast ") })
	return s
}

// repairOnce looks, repairs and looks again. Without a key there is nothing to
// see.
func (h *brokenHost) repairOnce(key string) {
	h.t.Helper()
	seen := func(verb string, repaired bool) {
		fs, err := h.inspect(verb)
		if (err == nil) != (repaired || key == "") {
			h.t.Errorf("%s: %v, %+v", verb, err, fs)
		}
		for _, f := range fs {
			if f.Repaired != repaired {
				h.t.Errorf("%s: %+v", verb, f)
			}
			if f.Key == key {
				return
			}
		}
		if key != "" {
			h.t.Errorf("%s does not tell of %s: %+v", verb, key, fs)
		}
	}
	seen("diff", false)
	if key != "" && h.whole() == nil {
		h.t.Error("diff changes the host")
	}
	seen("repair", true)
	if err := h.whole(); err != nil {
		h.t.Error(err)
	}
	if fs, err := h.inspect("repair"); err != nil || len(fs) > 0 {
		h.t.Errorf("a second repair finds %+v, %v", fs, err)
	}
}

// watch starts to watch, and returns when a first harm has been made right.
func (h *brokenHost) watch() {
	h.t.Helper()
	h.watcher = h.daemon(bin("bowline-bridge"), "repair", "-watch")
	h.run("nft", "delete", "element", "ip6", "bowline", "from", "{ br-web }")
	eventually(h.t, func() error {
		_, err := h.try("nft", "get", "element", "ip6", "bowline", "from", "{ br-web }")
		return err
	})
}
