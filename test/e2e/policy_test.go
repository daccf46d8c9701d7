package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

// A probe is one try to talk, by both families.
type probe struct {
	from, to string // a, b, host or outside
	proto    string // tcp, udp, large (UDP in fragments) or icmp
	port     int
	want     bool
}

// everything tries all protocols between two.
func everything(from, to string, want bool) []probe {
	return []probe{{from, to, "tcp", 80, want}, {from, to, "udp", 53, want}, {from, to, "large", 53, want}, {from, to, "icmp", 0, want}}
}

// TestPolicy: what a policy of a allows passes and what it denies does not, to
// and from its bridge, its host and the world, and replies pass in any case.
func TestPolicy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, policy string // B is b's addresses
		probes       [][]probe
	}{
		{"deny ingress", "deny ingress", [][]probe{
			everything("b", "a", false), everything("host", "a", false), everything("outside", "a", false),
			everything("a", "b", true), everything("a", "host", true), everything("a", "outside", true),
		}},
		{"deny egress", "deny egress", [][]probe{
			everything("b", "a", true), everything("host", "a", true), everything("outside", "a", true),
			everything("a", "b", false), everything("a", "host", false), everything("a", "outside", false),
		}},
		{"ports", "allow ingress tcp 80,8000-8009; deny ingress tcp; allow egress udp 53; deny egress udp", [][]probe{{
			{"b", "a", "tcp", 80, true}, {"b", "a", "tcp", 8009, true}, {"b", "a", "tcp", 8010, false}, {"b", "a", "tcp", 443, false},
			{"b", "a", "udp", 80, true}, {"b", "a", "icmp", 0, true}, {"host", "a", "tcp", 443, false}, {"outside", "a", "tcp", 443, false},
			{"a", "b", "udp", 53, true}, {"a", "b", "large", 53, true}, {"a", "b", "udp", 80, false}, {"a", "b", "large", 80, false},
			{"a", "outside", "udp", 80, false}, {"a", "host", "udp", 53, true}, {"a", "b", "tcp", 443, true}, {"a", "b", "icmp", 0, true},
		}}},
		{"protocols", "deny ingress icmp; allow egress icmp; deny egress", [][]probe{{
			{"b", "a", "icmp", 0, false}, {"b", "a", "tcp", 80, true}, {"a", "b", "icmp", 0, true}, {"a", "outside", "icmp", 0, true},
			{"a", "b", "tcp", 80, false}, {"a", "outside", "udp", 53, false},
		}}},
		{"peers", "deny egress to B; allow ingress from B; deny ingress", [][]probe{
			everything("b", "a", true), everything("host", "a", false), everything("outside", "a", false),
			everything("a", "b", false), everything("a", "host", true), everything("a", "outside", true),
		}},
		{"network", "allow egress to network self; deny egress; allow ingress from network db; deny ingress icmp", [][]probe{{
			{"a", "b", "tcp", 80, true}, {"a", "host", "tcp", 80, true}, {"a", "outside", "tcp", 80, false}, {"b", "a", "icmp", 0, false}, {"b", "a", "udp", 53, true},
		}}},
	}
	for _, bridgeNF := range []string{"0", "1"} {
		t.Run("bridge-nf "+bridgeNF, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, bridgeNF)
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					a := s.h.sandbox("a")
					peers := s.addrs["b"]["4"] + "," + s.addrs["b"]["6"]
					c := s.web.with("runtimeConfig", map[string]any{"policy": strings.ReplaceAll(tt.policy, "B", peers)})
					r := a.add(c)
					s.join("a", a, r.addr("4"), r.addr("6"))
					for _, ps := range tt.probes {
						s.try(t, ps)
					}
					if err := a.check(c, r); err != nil {
						t.Errorf("CHECK: %v", err)
					}
					a.del(c, r)
					a.end()
					if rules := s.h.run("nft", "list", "ruleset"); strings.Contains(rules, "policy-") {
						t.Errorf("DEL left: %s", rules)
					}
				})
			}
		})
	}
}

// TestPolicyCounts: each rule counts the packets that it decided about, and the
// first of each connection that it allowed.
func TestPolicyCounts(t *testing.T) {
	t.Parallel()
	s := newScene(t, "0")
	a := s.h.sandbox("a")
	c := s.web.with("policy", []any{map[string]any{"action": "deny", "direction": "ingress", "protocol": "udp", "ports": []any{"60-69", 80}}, "deny egress tcp 443"}).
		with("args", map[string]any{"cni": map[string]any{"policy": "allow ingress udp 53"}})
	r, err := a.tryAddAs(c, "eth0", "IgnoreUnknown=1;POLICY=deny ingress udp 7|allow egress tcp 80")
	if err != nil {
		t.Fatal(err)
	}
	s.join("a", a, r.addr("4"), r.addr("6"))
	for family, addr := range s.addrs["a"] {
		for i := range 10 {
			if err := mustExchange(s.at["b"], "udp", net.JoinHostPort(addr, "53"), "hello"); err != nil {
				t.Errorf("IPv%s: datagram %d to an allowed port: %v", family, i, err)
			}
			send(t, s.at["b"], net.JoinHostPort(addr, "7"))
			send(t, s.at["host"], net.JoinHostPort(addr, "65"))
			if err := mustExchange(s.at["a"], "tcp", net.JoinHostPort(s.addrs["b"][family], "80"), "hello"); err != nil {
				t.Errorf("IPv%s: connection %d to an allowed port: %v", family, i, err)
			}
		}
	}
	want := []string{
		"allow ingress udp 53: 20", "deny ingress udp 7: 20", "allow egress tcp 80: 20", "deny ingress udp 60-69,80: 20", "deny egress tcp 443: 0",
		"otherwise allow ingress: 0", "otherwise allow egress: 0",
	}
	eventually(t, func() error {
		got := s.h.policyCounts(t, "a")
		if strings.Join(got, "; ") != strings.Join(want, "; ") {
			return fmt.Errorf("counts are %q, want %q", got, want)
		}
		return nil
	})
}

// send sends one datagram.
func send(t testing.TB, ns *netns.Handle, addr string) {
	t.Helper()
	if err := netns.Do(ns, func() error {
		c, err := net.Dial("udp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// policyCounts returns what bowline-bridge stats says of a container's policy.
func (h *host) policyCounts(t testing.TB, container string) (counts []string) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(h.run(bin("bowline-bridge"), "stats", "-json")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct {
			Container string
			Policy    []struct {
				Rule    string
				Packets int
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		if row.Container != container {
			continue
		}
		for _, p := range row.Policy {
			counts = append(counts, fmt.Sprintf("%s: %d", p.Rule, p.Packets))
		}
	}
	return counts
}

// TestPolicyErrorsPass: that a port is closed is told through a policy that lets
// the question pass.
func TestPolicyErrorsPass(t *testing.T) {
	t.Parallel()
	s := newScene(t, "0")
	for _, tt := range []struct{ policy, from, to string }{{"deny ingress", "a", "b"}, {"deny egress", "b", "a"}} {
		a := s.h.sandbox("a")
		c := s.web.with("policy", tt.policy)
		r := a.add(c)
		s.join("a", a, r.addr("4"), r.addr("6"))
		for family, addr := range s.addrs[tt.to] {
			if err := exchange(s.at[tt.from], "udp", net.JoinHostPort(addr, "9"), "hello"); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s, %s asks %s at a closed port by IPv%s: %v", tt.policy, tt.from, tt.to, family, err)
			}
		}
		a.del(c, r)
		a.end()
	}
}

// TestPolicyInvalid: a policy that is wrong keeps the container from being
// attached, and nothing is left.
func TestPolicyInvalid(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	many := make([]string, 200)
	for i := range many {
		many[i] = fmt.Sprintf("deny egress tcp %d", 2*i+1)
	}
	for i := range 200 {
		many = append(many, fmt.Sprintf("deny egress to 10.0.%d.0/24", i))
	}
	for _, tt := range []struct {
		name, key string
		value     any
		want      string
	}{
		{"word", "policy", "deny egres", `network "web": policy: rule 1 "deny egres": direction="egres": want ingress or egress; did you mean egress?`},
		{"host bits", "policy", []any{map[string]any{"action": "deny", "direction": "egress", "peers": []any{"10.0.0.1/8"}}}, `want an address or a prefix without host bits`},
		{"by the engine", "runtimeConfig", map[string]any{"policy": "deny"}, `network "web": runtimeConfig: policy: rule 1 "deny": direction="": want ingress or egress`},
		{"unknown network", "policy", "deny egress to network nowhere", `network="nowhere": want "self", a network that containers are attached to now, or its prefixes instead`},
		{"without firewall", "runtimeConfig", map[string]any{"policy": "deny egress"}, `option firewall="none" and a policy: want firewall="nft"`},
		{"too large", "policy", strings.Join(many, ";"), `come to more than 16384 disjoint ranges`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := h.snapshot()
			c := network("web", web4, web6).with(tt.key, tt.value)
			if tt.name == "without firewall" {
				c = c.with("firewall", "none").with("ipMasq", false)
			}
			a := h.sandbox(strings.ReplaceAll(tt.name, " ", "-"))
			_, err := a.tryAdd(c)
			a.end()
			if code(err) != 7 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ADD: %v; want code 7, %s", err, tt.want)
			}
			h.collectAll()
			if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
				t.Errorf("left:\n%s", d)
			}
		})
	}
}

// TestPolicyOfThousandRules: attaches, keeps its promise and goes; GC and a DEL
// without a record find it as well.
func TestPolicyOfThousandRules(t *testing.T) {
	t.Parallel()
	s := newScene(t, "0")
	var rules []string
	for i := range 999 {
		rules = append(rules, fmt.Sprintf("deny egress tcp 80 to %s", netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), 32)))
	}
	rules = append(rules, "deny ingress udp 80 from "+s.addrs["b"]["4"])
	a := s.h.sandbox("a")
	c := s.web.with("policy", strings.Join(rules, "\n"))
	r := a.add(c)
	s.join("a", a, r.addr("4"), r.addr("6"))
	s.try(t, []probe{{"b", "a", "udp", 53, true}, {"a", "b", "tcp", 80, true}})
	if err := s.talk(probe{"b", "a", "udp", 80, false}, s.addrs["a"]["4"]); err == nil {
		t.Error("the last rule does not hold")
	}
	a2 := s.h.sandbox("a2")
	a2.add(c)
	if err := s.h.gc(s.web, []string{"a/eth0", "b/eth0"}); err != nil {
		t.Fatal(err)
	}
	if got := len(s.h.policyCounts(t, "a")); got != 1002 {
		t.Errorf("GC of a2 left a with %d counts, want 1002", got)
	}
	a.del(c, r)
	if rules := s.h.run("nft", "list", "ruleset"); strings.Contains(rules, "policy-") {
		t.Error("DEL left something of the policy")
	}
}

// TestPolicyWithoutRecord: DEL takes the policy away when the record is lost.
func TestPolicyWithoutRecord(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	a := h.sandbox("a")
	c := network("web", web4).with("runtimeConfig", map[string]any{"policy": "deny ingress"})
	r := a.add(c)
	h.run("sh", "-c", "rm -r "+h.dir+"/run/endpoints")
	a.del(network("web", web4), r)
	if rules := h.run("nft", "list", "ruleset"); strings.Contains(rules, "goto policy-") {
		t.Errorf("DEL left: %s", rules)
	}
}
