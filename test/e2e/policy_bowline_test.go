package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// TestBowlinePolicy: rules by connect, what policy show says of them, and policy
// set, which holds for connections that are there.
func TestBowlinePolicy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web", "--ipv6", "--opt", "policy=deny ingress icmp")
	h.bowline("sandbox", "create", "one", "two")
	out, err := h.try(bin("bowline"), "connect", "one", "web", "--policy", "deny igress")
	if err == nil || !strings.Contains(out, `network "web": policy: rule 1 "deny igress": direction="igress": want ingress or egress; did you mean ingress?`) {
		t.Errorf("a wrong policy: %v, %s", err, out)
	}
	one := addrs(h.bowline("connect", "one", "web", "--policy", "allow ingress tcp 80; deny ingress tcp; deny egress to network self"))
	two := addrs(h.bowline("connect", "two", "web"))
	var netnss []struct{ Name, Path string }
	if err := json.Unmarshal([]byte(h.bowline("sandbox", "ls", "--json")), &netnss); err != nil || len(netnss) != 2 {
		t.Fatalf("sandbox ls: %v, %v", netnss, err)
	}
	at := map[string]*netns.Handle{}
	for _, n := range netnss {
		ns, err := netns.Open(n.Path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		at[n.Name] = ns
		serveAll(t, ns)
	}
	for i := range one {
		if err := mustExchange(at["two"], "tcp", net.JoinHostPort(one[i], "80"), "hello"); err != nil {
			t.Errorf("to an allowed port of %s: %v", one[i], err)
		}
		if err := exchange(at["two"], "tcp", net.JoinHostPort(one[i], "443"), "hello"); err == nil {
			t.Errorf("a denied port of %s answers", one[i])
		}
		if h.reach("one", two[i]) || h.reach("two", one[i]) {
			t.Error("a ping passes that one, or the network, denies")
		}
	}
	shown := h.bowline("policy", "show", "one")
	for _, want := range []string{
		"web  one  eth0  allow ingress tcp 80  2 ", "deny ingress tcp  ", "deny egress to network self  4 ", "deny ingress icmp  4 ", "otherwise allow egress  0 ",
	} {
		if !strings.Contains(strings.Join(strings.Fields(shown), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("policy show lacks %q:\n%s", want, shown)
		}
	}
	if all := h.bowline("policy", "show"); !strings.Contains(strings.Join(strings.Fields(all), " "), "web two eth0 deny ingress icmp") {
		t.Errorf("policy show of all lacks two:\n%s", all)
	}
	conn := dial(t, at["two"], net.JoinHostPort(one[0], "80"))
	h.bowline("policy", "set", "one", "deny ingress")
	if err := echoed(conn); err == nil {
		t.Error("a connection that is there goes on after policy set denies it")
	}
	got := h.bowline("policy", "set", "one", "allow egress; deny ingress udp")
	if words := strings.Join(strings.Fields(got), " "); !strings.Contains(words, "web eth0 allow egress web eth0 deny ingress udp web eth0 deny ingress icmp") {
		t.Errorf("policy set says %s", got)
	}
	h.bowline("policy", "set", "two", "allow ingress icmp")
	if !h.reach("one", two[0]) || h.reach("two", one[0]) {
		t.Error("what was set does not hold")
	}
	h.run("nft", "flush", "ruleset")
	h.bowline("repair")
	if !h.reach("one", two[0]) || h.reach("two", one[0]) {
		t.Error("repair does not bring the policy back")
	}
	if out, err := h.try(bin("bowline"), "policy", "set", "one", "deny"); err == nil || !strings.Contains(out, `one: policy: rule 1 "deny": direction="": want ingress or egress`) {
		t.Errorf("a wrong policy: %v, %s", err, out)
	}
	h.bowline("check")
	h.bowline("policy", "set", "two", "")
	h.bowline("disconnect", "one", "web")
	h.bowline("disconnect", "two", "web")
	if rules := h.run("nft", "list", "ruleset"); strings.Contains(rules, "policy-") {
		t.Errorf("disconnect left: %s", rules)
	}
	h.bowline("sandbox", "rm", "one", "two")
	h.bowline("network", "rm", "web")
}

func dial(t testing.TB, ns *netns.Handle, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	if err := netns.Do(ns, func() (err error) { c, err = net.DialTimeout("tcp", addr, 2*time.Second); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func echoed(c net.Conn) error {
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	var b [8]byte
	n, err := c.Read(b[:])
	if err == nil && string(b[:n]) != "hello" {
		err = fmt.Errorf("got %q", b[:n])
	}
	return err
}
