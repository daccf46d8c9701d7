package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A sharedLAN is a broken host's counterpart on a LAN: the host, a container a to
// whom harm is done, a container b with a line to the LAN, and the LAN.
type sharedLAN struct {
	*host
	a, b *sandbox
	conf conf
	r    result // of a
	up0  string // MAC of the parent
	line *line
}

func newSharedLAN(t *testing.T, c conf) *sharedLAN {
	t.Helper()
	s := &sharedLAN{host: newLANHost(t), conf: c}
	s.up0 = s.mac("up0")
	s.a, s.b = s.sandbox("a"), s.sandbox("b")
	s.r = s.a.add(c)
	s.b.add(c)
	s.line = s.b.dial(s.outside(), "10.1.0.1:7")
	if err := s.line.echo(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sharedLAN) hostSandbox() *sandbox { return &sandbox{h: s.host, id: "host", ns: s.ns} }

// whole returns what of the LAN is not as it should be: who does not reach whom,
// and whether the LAN takes another MAC for the host's than the parent's.
func (s *sharedLAN) whole() error {
	host, out := s.hostSandbox(), s.outside()
	for _, w := range []struct {
		from *sandbox
		to   []string
	}{
		{host, []string{s.r.addr("4"), s.r.addr("6"), "10.1.0.1", "fd00:1::1"}},
		{s.a, []string{"10.1.0.254", "fd00:1::fe", "10.1.0.1", "fd00:1::1", "10.1.0.3", "fd00:1::3"}},
		{out, []string{s.r.addr("4"), s.r.addr("6"), "10.1.0.254", "fd00:1::fe"}},
	} {
		for _, addr := range w.to {
			if !w.from.reaches(addr) {
				return fmt.Errorf("%s does not reach %s", w.from.id, addr)
			}
		}
	}
	return s.seenByLAN()
}

func (s *sharedLAN) seenByLAN() error {
	s.t.Helper()
	up0 := s.mac("up0")
	for line := range strings.Lines(s.outside().run("ip", "neigh")) {
		for _, addr := range []string{"10.1.0.254 ", "fd00:1::fe "} {
			if strings.HasPrefix(line, addr) && !strings.Contains(line, up0) {
				return fmt.Errorf("the LAN takes another MAC for the host's, which is %s: %s", up0, line)
			}
		}
	}
	return nil
}

func (h *host) mac(name string) string {
	h.t.Helper()
	var links []struct{ Address string }
	h.parse(&links, "ip", "-j", "link", "show", name)
	return links[0].Address
}

// TestMacvlanHostAccess: the host and its containers reach each other, by an
// address that the LAN sees at the parent only, until the last one is gone;
// plugins that die in between change nothing.
func TestMacvlanHostAccess(t *testing.T) {
	t.Parallel()
	c := lan("web", web4, web6).with("host-access", true)
	s := newSharedLAN(t, c)
	before := s.withoutEndpoints()
	for range 3 { // in any order: neighbours remember
		if err := s.whole(); err != nil {
			t.Fatal(err)
		}
		s.outside().run("ip", "neigh", "flush", "dev", "out0")
		s.run("ip", "neigh", "flush", "dev", "up0")
	}
	s.shimIsHidden()
	victim := s.sandbox("k")
	stdin, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{host: s.host}
	for _, n := range []int{8, 16, 24, 32, 40} {
		victim.del(c, result{})
		cmd := s.command(bin("bowline-macvlan"))
		cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "CNI_COMMAND=ADD", "CNI_PATH="+cniPath(), "CNI_CONTAINERID=k", "CNI_NETNS="+victim.path, "CNI_IFNAME=eth0")
		if change, err := f.kill(cmd, stdin, n); change == "" || err == nil {
			t.Errorf("nobody was killed at change %d: %v", n, err)
		}
		if err := s.whole(); err != nil {
			t.Errorf("after a kill at change %d: %v", n, err)
		}
	}
	victim.del(c, result{})
	r := victim.add(c)
	if !s.hostSandbox().reaches(r.addr("4")) || !victim.reaches("fd00:1::fe") {
		t.Error("the host and a container whose first ADDs died do not reach each other")
	}
	victim.del(c, r)
	if d := diff(before, s.withoutEndpoints()); d != "" {
		t.Errorf("a container that came and went changed the host:\n%s", d)
	}
	s.a.del(c, s.r)
	if !s.hostSandbox().reaches("10.1.0.3") || !s.hostSandbox().reaches("fd00:1::3") {
		t.Error("the host does not reach b after a is gone")
	}
	if err := s.line.echo(); err != nil {
		t.Errorf("b's line to the LAN: %v", err)
	}
	s.b.del(c, result{})
	s.expectNoEndpoint()
	if rules := s.run("nft", "list", "ruleset"); rules != "" {
		t.Errorf("left when nobody is there: %s", rules)
	}
}

// shimIsHidden fails the test unless the LAN gets nothing from the host's own link
// on the parent, and no answer by it.
func (s *sharedLAN) shimIsHidden() {
	s.t.Helper()
	shim, out := s.shim(), s.outside()
	mac := s.mac(shim)
	out.run("nft", "add table netdev look; add chain netdev look from { type filter hook ingress device out0 priority 0; }; add rule netdev look from ether saddr "+mac+" counter")
	_, _ = s.try("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-I", shim, "10.1.0.1")
	if seen := out.run("nft", "list", "table", "netdev", "look"); !strings.Contains(seen, "packets 0 ") {
		s.t.Errorf("the LAN gets what the host sends by %s: %s", shim, seen)
	}
	out.run("ip", "neigh", "replace", "10.1.0.254", "lladdr", mac, "dev", "out0", "nud", "permanent")
	if out.reaches("10.1.0.254") {
		s.t.Errorf("the LAN reaches the host at the MAC of %s", shim)
	}
	out.run("ip", "neigh", "del", "10.1.0.254", "dev", "out0")
	out.run("nft", "delete", "table", "netdev", "look")
}

// withoutEndpoints is what endpoints have on the host, without marks of the
// allocator.
func (s *sharedLAN) withoutEndpoints() snapshot {
	w := s.snapshot().withoutMarks()
	delete(w, "mount")
	return w
}

// macvlanHarms are done to the host, or to a's sandbox; the key says that diff
// sees it. repair does not find those of repaired by itself: somebody else must
// act first.
var macvlanHarms = []struct {
	name, key string
	do        func(s *sharedLAN)
}{
	{"shim deleted", "link SHIM", func(s *sharedLAN) { s.run("ip", "link", "del", s.shim()) }},
	{"shim down", "state", func(s *sharedLAN) { s.run("ip", "link", "set", s.shim(), "down") }},
	{"routes deleted", "peer", func(s *sharedLAN) {
		s.run("ip", "route", "flush", "dev", s.shim())
		s.run("ip", "-6", "route", "del", s.r.addr("6"), "dev", s.shim())
	}},
	{"neighbours deleted", "peer", func(s *sharedLAN) {
		s.run("ip", "neigh", "del", s.r.addr("4"), "dev", s.shim())
		s.run("ip", "neigh", "del", s.r.addr("6"), "dev", s.shim())
	}},
	{"shim's addresses deleted", "address", func(s *sharedLAN) { s.run("ip", "addr", "flush", "dev", s.shim()) }},
	{"nft flush on the host", "table", func(s *sharedLAN) { s.run("nft", "flush", "ruleset") }},
	{"nft flush in the sandbox", "table", func(s *sharedLAN) { s.a.run("nft", "flush", "ruleset") }},
	{"limit deleted", "limit out", func(s *sharedLAN) { s.a.run("tc", "qdisc", "del", "dev", "eth0", "root") }},
	{"link deleted", "link eth0", func(s *sharedLAN) { s.a.run("ip", "link", "del", "eth0") }},
	{"link down", "state", func(s *sharedLAN) { s.a.run("ip", "link", "set", "eth0", "down") }},
	{"mode changed", "mode", func(s *sharedLAN) { s.a.run("ip", "link", "set", "eth0", "type", "macvlan", "mode", "private") }},
	{"container's address", "address", func(s *sharedLAN) { s.a.run("ip", "addr", "flush", "dev", "eth0") }},
	{"parent's MTU up again", "mtu", func(s *sharedLAN) {
		s.run("ip", "link", "set", "up0", "mtu", "1400")
		s.run("ip", "link", "set", "up0", "mtu", "1500")
	}},
	{"parent deleted and made again", "link eth0", func(s *sharedLAN) {
		s.run("ip", "link", "del", "up0")
		s.plugLAN()
	}},
	{"parent down and up", "", func(s *sharedLAN) {
		s.run("ip", "link", "set", "up0", "down")
		s.run("ip", "link", "set", "up0", "up")
		s.giveUp0()
	}},
}

func macvlanRepairConf() conf {
	return lan("web", web4, web6).with("host-access", true).with("egressRate", 100e6).
		with("policy", "allow ingress icmp; allow ingress tcp 80; deny ingress tcp")
}

// TestMacvlanRepair: diff sees each harm, and repair makes it right once, or by
// itself while it serves. A line of another container to the LAN survives.
func TestMacvlanRepair(t *testing.T) {
	for _, serve := range []bool{false, true} {
		for _, tt := range macvlanHarms {
			t.Run(fmt.Sprintf("%s/serve=%v", tt.name, serve), func(t *testing.T) {
				t.Parallel()
				s := newSharedLAN(t, macvlanRepairConf())
				before := s.snapshot()
				if serve {
					s.serveMacvlan()
				}
				shim := s.shim()
				start := time.Now()
				tt.do(s)
				if serve {
					eventually(t, func() error { _, err := s.inspectBy("bowline-macvlan", "diff"); return err })
					t.Logf("right again %s after the harm began", time.Since(start).Round(time.Millisecond))
				} else {
					s.repairOnce(strings.ReplaceAll(tt.key, "SHIM", shim))
				}
				eventually(t, s.whole)
				if err := s.line.echo(); err != nil {
					t.Errorf("b's line to the LAN: %v", err)
				}
				if d := diff(macvlanAlike(before), macvlanAlike(s.snapshot())); d != "" {
					t.Errorf("the host is not as it was before the harm:\n%s", d)
				}
				if err := s.a.check(s.conf, s.r); err != nil {
					t.Errorf("CHECK: %v", err)
				}
			})
		}
	}
}

// macvlanAlike leaves out what serves, and what differs as in [alike].
func macvlanAlike(s snapshot) snapshot {
	delete(s, "process")
	s = s.without("record", func(l string) bool { return strings.HasSuffix(l, ".sock") || strings.Contains(l, "plugins/") })
	s["link"] = nil // a parent that was made again has another MAC
	return alike(s)
}

// repairOnce looks, repairs and looks again. Without a key nothing is lost.
func (s *sharedLAN) repairOnce(key string) {
	s.t.Helper()
	for _, verb := range []string{"diff", "repair"} {
		fs, err := s.inspectBy("bowline-macvlan", verb)
		if key == "" || verb == "repair" {
			if err != nil {
				s.t.Errorf("%s: %v, %+v", verb, err, fs)
			}
		}
		seen := key == ""
		for _, f := range fs {
			seen = seen || f.Key == key
		}
		if !seen {
			s.t.Errorf("%s does not tell of %s: %+v", verb, key, fs)
		}
	}
	if fs, err := s.inspectBy("bowline-macvlan", "repair"); err != nil || len(fs) > 0 {
		s.t.Errorf("a second repair finds %+v, %v", fs, err)
	}
}

// serveMacvlan starts to serve, and returns when it watches: a first harm has
// been made right.
func (s *sharedLAN) serveMacvlan() {
	s.t.Helper()
	if err := os.MkdirAll(s.dir+"/plugins", 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.daemon(bin("bowline-macvlan"), "serve", "-socket", s.dir+"/plugins/macvlan.sock")
	s.a.run("ip", "link", "set", "eth0", "type", "macvlan", "mode", "private")
	eventually(s.t, func() error {
		if out := s.a.run("ip", "-d", "link", "show", "eth0"); !strings.Contains(out, "mode bridge") {
			return errors.New("it does not watch")
		}
		return nil
	})
	<-time.After(time.Second) // what the repair itself changed is no reason to look any more
}

// plugLAN makes up0 again, wired as it was.
func (s *sharedLAN) plugLAN() {
	s.t.Helper()
	s.run("ip", "link", "add", "up0", "address", s.up0, "type", "veth", "peer", "name", "out0", "netns", s.out.path)
	s.run("ip", "link", "set", "up0", "up")
	s.run("ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
	s.giveUp0()
	s.out.run("ip", "link", "set", "out0", "up")
	for _, a := range []string{"192.0.2.2/24", "2001:db8::2/64"} {
		s.out.run("ip", "addr", "add", a, "dev", "out0", "nodad")
	}
	for _, n := range lanSubnets() {
		s.out.run("ip", "addr", "add", n.gateway, "dev", "out0", "nodad")
	}
}

// giveUp0 gives up0 what a link loses that goes down.
func (s *sharedLAN) giveUp0() {
	s.t.Helper()
	for _, a := range []string{"2001:db8::1/64"} {
		s.run("ip", "addr", "replace", a, "dev", "up0", "nodad")
	}
	for _, n := range lanSubnets() {
		s.run("ip", "addr", "replace", n.host, "dev", "up0", "nodad")
	}
	s.run("ip", "route", "replace", "default", "via", "192.0.2.2")
	s.run("ip", "-6", "route", "replace", "default", "via", "2001:db8::2", "metric", "1024")
}
