package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// limits returns what limits the links of the host, as LINK KIND RATE in bit/s;
// a link that belongs to an endpoint is called by the first letters of its name.
func (h *host) limits() string {
	h.t.Helper()
	var qdiscs []struct {
		Kind, Dev string
		Options   struct{ Rate uint64 }
	}
	h.parse(&qdiscs, "tc", "-j", "qdisc")
	var all []string
	for _, q := range qdiscs {
		if q.Kind == "tbf" {
			all = append(all, fmt.Sprintf("%.3s %d", q.Dev, q.Options.Rate*8))
		}
	}
	return strings.Join(all, ", ")
}

// TestBandwidth: keys of the reference plugin in the configuration, and what an
// engine asks for.
func TestBandwidth(t *testing.T) {
	asked := func(limits map[string]any) map[string]any { return map[string]any{"bandwidth": limits} }
	tests := []struct {
		name string
		conf conf
		want string
	}{
		{"none", network("web", web4), ""},
		{"to the container", network("web", web4).with("ingressRate", 10e6).with("ingressBurst", 800e3), "bwo 10000000"},
		{"from the container", network("web", web4).with("egressRate", 20e6), "bwf 20000000"},
		{"both, by the engine", network("web", web4, web6).with("runtimeConfig", asked(map[string]any{"ingressRate": 1e9, "egressRate": 5e9})), "bwo 1000000000, bwf 5000000000"},
		{"as containerd asks", network("web", web4).with("runtimeConfig", asked(map[string]any{"ingressRate": 10e6, "ingressBurst": 1<<32 - 1})), "bwo 10000000"},
		{"the configuration wins", network("web", web4).with("ingressRate", 30e6).with("runtimeConfig", asked(map[string]any{"ingressRate": 10e6, "egressRate": 10e6})), "bwo 30000000"},
		{"engine without limits", network("web", web4).with("runtimeConfig", asked(nil)), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			a, b := h.sandbox("a"), h.sandbox("b")
			r := a.add(tt.conf)
			if got := h.limits(); got != tt.want {
				t.Errorf("limits are %q, want %q", got, tt.want)
			}
			if err := a.check(tt.conf, r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			rb := b.add(network("web", web4, web6))
			a.passes(b, rb.addr("4"))
			b.passes(a, r.addr("4"))
			if err := a.tryDel(network("web", web4), ""); err != nil { // without its limits, namespace and result
				t.Errorf("DEL: %v", err)
			}
			if got := h.limits(); got != "" {
				t.Errorf("after DEL limits are %q", got)
			}
		})
	}
}

// passes sends more than a burst from one sandbox to another.
func (s *sandbox) passes(to *sandbox, addr string) {
	s.h.t.Helper()
	const size = 1 << 20
	var l net.Listener
	err := netns.Do(to.ns, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		s.h.t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		sent <- netns.Do(s.ns, func() error {
			c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(make([]byte, size))
			return err
		})
	}()
	c, err := l.Accept()
	if err != nil {
		s.h.t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := io.Copy(io.Discard, c)
	if serr := <-sent; err != nil || serr != nil || n != size {
		s.h.t.Errorf("%s to %s: %d of %d bytes came, %v, %v", s.id, to.id, n, size, err, serr)
	}
}

// TestBandwidthWrong: what cannot be kept is refused before anything is made.
func TestBandwidthWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	before := h.snapshot()
	for _, tt := range []struct {
		key   string
		value any
		names string
	}{
		{"ingressBurst", 8000, "want an ingressRate with it"},
		{"egressRate", 10, "egressRate=10: want at least 1000 bit/s"},
		{"ingressRate", "fast", "ingressRate"},
		{"ingresRate", 1000, "did you mean ingressRate?"},
	} {
		out, err := h.cni(network("web", web4).with(tt.key, tt.value), call{verb: "ADD", id: s.id, netns: s.path, ifname: "eth0"})
		if c := code(err); c != 7 && c != 6 || !strings.Contains(string(out), tt.names) {
			t.Errorf("%s=%v: %v in %s, want an error that says %q", tt.key, tt.value, err, out, tt.names)
		}
	}
	if d := diff(before, h.snapshot()); d != "" {
		t.Errorf("wrong limits changed the host:\n%s", d)
	}
}

// TestBandwidthLost: CHECK sees what somebody took away, and GC clears an ifb
// whose container died.
func TestBandwidthLost(t *testing.T) {
	for _, harm := range []string{"tc qdisc del dev OUTER root", "tc qdisc del dev OUTER ingress", "ip link del IFB", "tc qdisc del dev IFB root"} {
		t.Run(harm, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			s := h.sandbox("a")
			c := network("web", web4).with("ingressRate", 10e6).with("egressRate", 10e6)
			r := s.add(c)
			ifb := strings.TrimSuffix(strings.Fields(h.run("ip", "-o", "link", "show", "type", "ifb"))[1], ":")
			h.run("sh", "-c", strings.NewReplacer("OUTER", r.Interfaces[1].Name, "IFB", ifb).Replace(harm))
			if err := s.check(c, r); code(err) < 100 || code(err) == 999 {
				t.Errorf("CHECK: %v, want an error of 100 or above that says what differs", err)
			}
			s.end() // no DEL comes; the GC at the end of the test must do
		})
	}
}

// TestShape: limits of what is attached change, whoever attached it, and are
// what CHECK compares with from then on.
func TestShape(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	c := network("web", web4).with("ingressRate", 10e6)
	r := s.add(c)
	other := h.sandbox("b")
	other.add(network("web", web4))
	for _, step := range []struct{ args, want string }{
		{"a --egress 20mbit", "bwo 10000000, bwf 20000000"},
		{"a --ingress 1g --network web", "bwo 1000000000, bwf 20000000"},
		{r.addr("4") + " --ingress none --ifname eth0", "bwf 20000000"},
		{"a --egress 5m --egress-burst 1m", "bwf 5000000"},
		{"a", "bwf 5000000"},
		{"a --egress 0", ""},
		{"a --egress 7m", "bwf 7000000"},
	} {
		out := h.bowline(append([]string{"shape"}, strings.Fields(step.args)...)...)
		if got := h.limits(); got != step.want || !strings.Contains(out, "INGRESS") {
			t.Fatalf("after shape %s limits are %q, want %q; it printed\n%s", step.args, got, step.want, out)
		}
		if err := s.check(c, r); err != nil {
			t.Errorf("after shape %s CHECK says %v", step.args, err)
		}
	}
	var rows []struct {
		Network, Interface string
		EgressRate         uint64
	}
	if err := json.Unmarshal([]byte(h.bowline("shape", "a", "--json")), &rows); err != nil || len(rows) != 1 || rows[0].EgressRate != 7e6 || rows[0].Network != "web" {
		t.Errorf("shape --json printed %+v, %v", rows, err)
	}
	for args, want := range map[string]string{
		"a --egress 10mbps":        `--egress "10mbps": want bits`,
		"a --egress 10":            "egressRate=10: want at least 1000 bit/s",
		"nobody --egress 1m":       "nobody is not attached",
		"a --network db":           "a is not attached to db",
		"a --ingress-burst 100000": "want an ingressRate with it",
		"a b":                      `unexpected "b"`,
	} {
		if out, err := h.try(bin("bowline"), append([]string{"shape"}, strings.Fields(args)...)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("shape %s: %v, %s; want %q", args, err, out, want)
		}
	}
	if got := h.limits(); got != "bwf 7000000" {
		t.Errorf("after refused changes limits are %q", got)
	}
	s.del(c, r)
	if out, err := h.try(bin("bowline"), "shape", "a", "--egress", "1m"); err == nil || !strings.Contains(out, "a is not attached") {
		t.Errorf("shape after DEL: %v, %s", err, out)
	}
	if got := h.limits(); got != "" {
		t.Errorf("after DEL limits are %q", got)
	}
}

// TestShapeSandbox: those of the runtime, which have limits on each network.
func TestShapeSandbox(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, n := range []string{"web", "db"} {
		h.bowline("network", "create", n)
	}
	h.bowline("sandbox", "create", "one")
	h.bowline("connect", "one", "web")
	h.bowline("connect", "one", "db")
	out := h.bowline("shape", "one", "--ingress", "50mbit")
	if got := h.limits(); got != "bwo 50000000, bwo 50000000" {
		t.Errorf("limits are %q; shape printed %s", got, out)
	}
	h.bowline("check")
	h.bowline("sandbox", "rm", "one")
	h.bowline("network", "rm", "web")
	h.bowline("network", "rm", "db")
}

// TestBandwidthChained: the reference plugins in our chain, as before.
func TestBandwidthChained(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	c := network("web", web4).with("cniVersion", "1.0.0")
	r := s.add(c)
	at := call{verb: "ADD", id: s.id, netns: s.path, ifname: "eth0"}
	tuning := conf{"cniVersion": "1.0.0", "name": "web", "type": "tuning", "dataDir": h.dir + "/tuning", "promisc": true, "txQLen": 12}
	chained := conf{"cniVersion": "1.0.0", "name": "web", "type": "bandwidth", "ingressRate": 8e6, "ingressBurst": 8e5, "egressRate": 9e6, "egressBurst": 8e5}
	for _, link := range []conf{tuning, chained} {
		if _, err := h.cni(link.with("prevResult", r.raw), at); err != nil {
			t.Fatal(err)
		}
	}
	delete(h.used, "web")
	if got := h.limits(); got != "bwo 8000000, bwp 9000000" {
		t.Errorf("limits are %q", got)
	}
	if err := s.check(c, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	at.verb = "DEL"
	for _, link := range []conf{chained, tuning} {
		if _, err := h.cni(link.with("prevResult", r.raw), at); err != nil {
			t.Fatal(err)
		}
	}
	s.del(c, r)
	h.used["web"] = c
}

// TestShapeRepaired: limits that somebody took away come back, as they were
// last asked for.
func TestShapeRepaired(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	r := s.add(network("web", web4).with("ingressRate", 10e6))
	h.bowline("shape", "a", "--egress", "20mbit")
	h.run("sh", "-c", "tc qdisc del dev "+r.Interfaces[1].Name+" root; ip link del $(ip -o link show type ifb | cut -d: -f2)")
	if out, err := h.try(bin("bowline"), "diff"); err == nil || !strings.Contains(out, "limit out") || !strings.Contains(out, "limit in") {
		t.Errorf("diff: %v, %s; want both limits named", err, out)
	}
	h.bowline("repair")
	if got := h.limits(); got != "bwo 10000000, bwf 20000000" {
		t.Errorf("after repair limits are %q", got)
	}
}
