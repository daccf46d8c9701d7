package e2e

import (
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

// publishing returns the configuration with ports of the host that lead to port
// 80 of the container.
func (c conf) publishing(ports ...int) conf {
	var mappings []any
	for _, p := range ports {
		mappings = append(mappings, map[string]any{"hostPort": p, "containerPort": 80, "protocol": "tcp"})
	}
	return c.with("capabilities", map[string]any{"portMappings": true}).with("runtimeConfig", map[string]any{"portMappings": mappings})
}

// published is a container of a network whose port 80 is the host's 8080, on a
// host with a machine beyond it that knows the way to it.
type published struct {
	t         *testing.T
	h         *host
	out, c    *sandbox
	conf      conf
	r         result
	addresses []string // its own
}

func (h *host) publish(t *testing.T, out *sandbox, options ...string) published {
	t.Helper()
	p := published{t: t, h: h, out: out, c: h.sandbox("published"), conf: network("web", web4, web6).publishing(8080)}
	for i := 0; i < len(options); i += 2 {
		p.conf = p.conf.with(options[i], options[i+1])
	}
	p.r = p.c.add(p.conf)
	p.c.serve("[::]:80")
	for _, family := range []string{"4", "6"} {
		p.addresses = append(p.addresses, p.r.addr(family))
	}
	return p
}

// mustWork fails the test unless the port leads to the container from beyond
// the host and from it, and nothing else does; the container reaches out.
func (p published) mustWork(when string) {
	p.t.Helper()
	var wg sync.WaitGroup
	ask := func(from *sandbox, addr, want string, answered bool) {
		wg.Go(func() {
			seen, err := from.ask(addr)
			if (err == nil) != answered || want != "" && strings.TrimPrefix(seen, "::ffff:") != want {
				p.t.Errorf("%s: %s asks %s: seen as %q, %v; want %q, an answer: %v", when, from.id, addr, seen, err, want, answered)
			}
		})
	}
	ask(p.out, host4+":8080", "192.0.2.2", true)
	ask(p.out, at(host6, "8080"), "2001:db8::2", true)
	ask(p.itself(), "127.0.0.1:8080", "", true)
	ask(p.itself(), "[::1]:8080", "", true)
	for _, addr := range p.addresses {
		ask(p.out, at(addr, "80"), "", false)
	}
	ask(p.c, "192.0.2.2:80", host4, true)
	ask(p.c, "[2001:db8::2]:80", host6, true)
	wg.Wait()
}

func (p published) itself() *sandbox { return &sandbox{h: p.h, id: "host", ns: p.h.ns} }

// mustNotLead fails the test if the port leads anywhere from beyond the host.
func (p published) mustNotLead(when string) {
	p.t.Helper()
	var wg sync.WaitGroup
	for _, addr := range []string{host4 + ":8080", at(host6, "8080")} {
		wg.Go(func() {
			if _, err := p.out.ask(addr); err == nil {
				p.t.Errorf("%s: beyond asks %s and is answered", when, addr)
			}
		})
	}
	wg.Wait()
}

// end removes the container and its network.
func (p published) end() {
	p.t.Helper()
	p.c.del(p.conf, p.r)
	if err := p.h.gc(p.conf, []string{}); err != nil {
		p.t.Fatal(err)
	}
	p.mustNotLead("removed")
}

// beyond returns the machine beyond the host, with servers.
func beyond(h *host) *sandbox {
	h.t.Helper()
	out := direct(h, web4, web6)
	out.serve("192.0.2.2:80")
	out.serve("[2001:db8::2]:80")
	return out
}

// TestPortsPastForwardDrop: where the FORWARD chain of iptables drops, as
// dockerd leaves it, in either of its rulesets.
func TestPortsPastForwardDrop(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if err := netns.Do(h.ns, exec.Command("iptables-"+kind, "-S").Run); err != nil {
				t.Logf("this kernel has no iptables-%s: %v", kind, err)
				return
			}
			out := beyond(h)
			both := func(args ...string) (rules string) {
				for _, family := range []string{"iptables-", "ip6tables-"} {
					rules += h.run(family+kind, args...)
				}
				return rules
			}
			both("-P", "FORWARD", "DROP")
			both("-N", "DOCKER-USER")
			both("-I", "FORWARD", "-j", "DOCKER-USER")
			before := both("-S")
			p := h.publish(t, out)
			p.mustWork("past a chain that drops")
			// The user's own rules in DOCKER-USER hold.
			both("-I", "DOCKER-USER", "-i", "up0", "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "8080", "-j", "DROP")
			p.mustNotLead("dropped by the user")
			both("-D", "DOCKER-USER", "-i", "up0", "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "8080", "-j", "DROP")
			p.mustWork("no longer dropped")
			p.end()
			if after := both("-S"); after != before {
				t.Errorf("the rules are\n%s\nand were\n%s", after, before)
			}
			both("-D", "FORWARD", "-j", "DOCKER-USER")
			both("-X", "DOCKER-USER")
			both("-P", "FORWARD", "ACCEPT")
			h.run("nft", "flush", "ruleset") // iptables leaves empty tables
		})
	}
}

// TestPortsPastFirewalld: the real firewalld lets published ports pass, after a
// reload too.
func TestPortsPastFirewalld(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := beyond(h)
	h.firewalld()
	p := h.publish(t, out)
	p.mustWork("behind firewalld")
	h.run("firewall-cmd", "--reload")
	h.run("firewall-cmd", "--zone=work", "--change-interface=up0")
	for _, addr := range []string{host4 + ":8080", at(host6, "8080")} {
		out.asks(addr, true)
	}
	h.run(bin("bowline"), "repair")
	p.mustWork("after a reload and a repair")
	p.end()
}

// TestPortsPastUFW: the real ufw lets published ports pass as Docker's do, but
// for those that the user denies.
func TestPortsPastUFW(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := beyond(h)
	h.enableUFW()
	p := h.publish(t, out)
	p.mustWork("behind ufw")
	h.ufw("route", "deny", "in", "on", "up0", "out", "on", "br-web", "to", "any", "port", "80", "proto", "tcp")
	p.mustNotLead("denied")
	h.ufw("route", "delete", "deny", "in", "on", "up0", "out", "on", "br-web", "to", "any", "port", "80", "proto", "tcp")
	p.mustWork("no longer denied")
	h.ufw("reload")
	p.mustNotLead("after a reload")
	again := h.sandbox("again") // mends what the reload took
	again.add(network("web", web4, web6))
	p.mustWork("after a reload and another container")
	p.end()
	h.ufw("disable")
	h.run("nft", "flush", "ruleset") // ufw leaves its chains when disabled
}

// TestPortsRespectInput: on request whom the host's own firewall keeps out of a
// port is not led past it; the host itself is.
func TestPortsRespectInput(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		enable, admit func(h *host)
	}{
		{"ufw", (*host).enableUFW, func(h *host) { h.ufw("allow", "8080/tcp") }},
		{"firewalld", (*host).firewalld, func(h *host) { h.run("firewall-cmd", "--zone=work", "--add-port=8080/tcp") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			out := beyond(h)
			tt.enable(h)
			p := h.publish(t, out, "publish-policy", "respect-input")
			p.mustNotLead("not admitted")
			p.itself().asks("127.0.0.1:8080", true)
			tt.admit(h)
			p.mustWork("admitted")
			if tt.name == "ufw" {
				h.ufw("disable")
			}
			p.end()
			h.run("nft", "flush", "ruleset") // ufw leaves its chains when disabled
		})
	}
}
