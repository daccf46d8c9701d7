package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// lanMAC is that of the machine on the LAN.
const lanMAC = "02:00:00:00:00:aa"

// lan wires a LAN with a machine on it to a bridge of the host's own, br-web.
// The machine has the addresses.
func (h *host) lan(addrs ...string) *sandbox {
	h.t.Helper()
	m := h.sandbox("lan")
	h.run("ip", "link", "add", "br-web", "up", "type", "bridge")
	h.run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "lan0", "netns", m.path)
	h.t.Cleanup(h.removeLAN)
	h.run("ip", "link", "set", "nic0", "master", "br-web", "up")
	m.run("ip", "link", "set", "lan0", "address", lanMAC, "up")
	for _, a := range addrs {
		m.run("ip", "addr", "add", a, "dev", "lan0", "nodad")
	}
	return m
}

func (h *host) removeLAN() {
	h.try("ip", "link", "delete", "br-web")
	h.try("ip", "link", "delete", "nic0")
}

// onLAN is a network on the LAN, where others give addresses too.
func onLAN(subnets ...string) conf {
	return network("web", subnets...).with("acd", true).with("isGateway", false).with("isDefaultGateway", false).with("ipMasq", false)
}

// addLogged is tryAdd that returns what was logged, too.
func (s *sandbox) addLogged(c conf) (r result, log string, err error) {
	s.h.t.Helper()
	stdin, err := json.Marshal(c)
	if err != nil {
		s.h.t.Fatal(err)
	}
	s.h.used[fmt.Sprint(c["name"])] = c
	cmd := s.h.command(bin("bowline-bridge"))
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "CNI_COMMAND=ADD", "CNI_PATH="+cniPath(), "CNI_CONTAINERID="+s.id, "CNI_NETNS="+s.path, "CNI_IFNAME=eth0")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := s.h.do(cmd.Run); err != nil {
		var ce cniError
		if json.Unmarshal(stdout.Bytes(), &ce) != nil {
			s.h.t.Fatalf("ADD: %v, stdout %q, stderr %q", err, stdout.String(), stderr.String())
		}
		return r, stderr.String(), &ce
	}
	return r, stderr.String(), json.Unmarshal(stdout.Bytes(), &r)
}

// TestConflict: a machine on the LAN has what would be the next address. The
// container gets another one, in one family or in both.
func TestConflict(t *testing.T) {
	needsOurs(t)
	for _, tt := range []struct {
		name         string
		lan          []string
		want4, want6 string
		used         []string
		next4, next6 string // of the next container
	}{
		{"IPv4", []string{"10.1.0.2/24"}, "10.1.0.3", "fd00:1::2", []string{"10.1.0.2"}, "10.1.0.4", "fd00:1::3"},
		{"IPv6", []string{"fd00:1::2/64"}, "10.1.0.2", "fd00:1::3", []string{"fd00:1::2"}, "10.1.0.3", "fd00:1::4"},
		{"both", []string{"10.1.0.2/24", "fd00:1::2/64"}, "10.1.0.3", "fd00:1::3", []string{"10.1.0.2", "fd00:1::2"}, "10.1.0.4", "fd00:1::4"},
		{"three in a row", []string{"10.1.0.2/24", "10.1.0.3/24", "10.1.0.4/24"}, "10.1.0.5", "fd00:1::2", []string{"10.1.0.2", "10.1.0.3", "10.1.0.4"}, "10.1.0.6", "fd00:1::3"},
		{"none", []string{"10.1.0.9/24"}, "10.1.0.2", "fd00:1::2", nil, "10.1.0.3", "fd00:1::3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.lan(tt.lan...)
			c := onLAN(web4, web6).with("macspoofchk", true).with("policy", []any{"deny egress tcp 25", "deny egress udp", "deny ingress tcp"})
			a, b := h.sandbox("a"), h.sandbox("b")
			r, log, err := a.addLogged(c)
			if err != nil || r.addr("4") != tt.want4 || r.addr("6") != tt.want6 {
				t.Fatalf("a has %s and %s, %v; want %s and %s\n%s", r.addr("4"), r.addr("6"), err, tt.want4, tt.want6, log)
			}
			out := a.run("ip", "-o", "addr", "show", "dev", "eth0", "scope", "global")
			if strings.Count(out, "\n") != 2 || !strings.Contains(out, " "+tt.want4+"/24 ") || !strings.Contains(out, " "+tt.want6+"/64 ") {
				t.Errorf("eth0 has\n%s\nwant %s and %s", out, tt.want4, tt.want6)
			}
			list := h.run(bin("bowline-ipam"), "list")
			for _, addr := range tt.used {
				for _, want := range []string{`level=WARN msg="address is in use by another host" address=` + addr + " mac=" + lanMAC, "container=a", "network=web"} {
					if !strings.Contains(log, want) {
						t.Errorf("the log has no %s:\n%s", want, log)
					}
				}
				if !strings.Contains(list, addr+" ") || !strings.Contains(list, "(quarantine)  "+lanMAC+" uses it, until ") {
					t.Errorf("list does not have %s in quarantine:\n%s", addr, list)
				}
			}
			if tt.used == nil && (log != "" || strings.Contains(list, "quarantine")) {
				t.Errorf("without a conflict: log %s, list %s", log, list)
			}
			first, _, _ := strings.Cut(tt.lan[0], "/")
			if !a.reaches(first) {
				t.Errorf("a does not reach %s", first)
			}
			if err := a.check(c, result{raw: mustJSON(t, r)}); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			rb, log, err := b.addLogged(c)
			if err != nil || rb.addr("4") != tt.next4 || rb.addr("6") != tt.next6 || log != "" {
				t.Errorf("b has %s and %s, %v; want %s and %s without another conflict\n%s", rb.addr("4"), rb.addr("6"), err, tt.next4, tt.next6, log)
			}
			b.del(c, rb)
			a.del(c, r)
		})
	}
}

// mustJSON returns the result as it was printed, as far as CHECK needs it.
func mustJSON(t *testing.T, r result) json.RawMessage {
	t.Helper()
	var ips []any
	for _, ip := range r.IPs {
		ips = append(ips, map[string]any{"address": ip.Address, "interface": ip.Interface})
	}
	var ifs []any
	for _, i := range r.Interfaces {
		ifs = append(ifs, map[string]any{"name": i.Name, "mac": i.Mac, "sandbox": i.Sandbox})
	}
	b, err := json.Marshal(map[string]any{"cniVersion": r.CNIVersion, "ips": ips, "interfaces": ifs})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func needsOurs(t *testing.T) {
	t.Helper()
	if reference() {
		t.Skip("the reference plugins do not look")
	}
}

// TestQuarantineEnds: when all addresses are in use the error says who has them.
// One that is free again is handed out when its time is over.
func TestQuarantineEnds(t *testing.T) {
	needsOurs(t)
	for _, tt := range []struct {
		name, subnet string
		lan          []string // has all that there is
		free         string   // again, later
	}{
		{"IPv4", "10.1.0.0/30", []string{"10.1.0.2/30"}, "10.1.0.2"},
		{"IPv6", "fd00:1::/126", []string{"fd00:1::2/126", "fd00:1::3/126"}, "fd00:1::2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			m := h.lan(tt.lan...)
			c := onLAN(tt.subnet).ipam("quarantine", "1s")
			a := h.sandbox("a")
			_, log, err := a.addLogged(c)
			if code(err) != 11 || !strings.Contains(err.Error(), tt.free+" is in use by "+lanMAC) || !strings.Contains(err.Error(), "in quarantine") {
				t.Fatalf("ADD: %v, want code 11 and who has the address\n%s", err, log)
			}
			a.empty("after the ADD that failed")
			m.run("ip", "addr", "flush", "dev", "lan0")
			var r result
			eventually(t, func() (err error) {
				r, err = a.tryAdd(c)
				return err
			})
			if got := r.IPs[0].Address.Addr().String(); got != tt.free {
				t.Errorf("a got %s, want %s", got, tt.free)
			}
			if list := h.run(bin("bowline-ipam"), "list"); strings.Contains(list, tt.free+" ") {
				t.Errorf("still in quarantine:\n%s", list)
			}
			a.del(c, r)
		})
	}
}

// TestConflictAskedFor: who asks for an address gets that one or an error that
// says who has it.
func TestConflictAskedFor(t *testing.T) {
	needsOurs(t)
	for _, addr := range []string{"10.1.0.2", "fd00:1::2"} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			m := h.lan("10.1.0.2/24", "fd00:1::2/64")
			c := onLAN(web4, web6)
			a := h.sandbox("a")
			asks := c.with("runtimeConfig", map[string]any{"ips": []string{addr}})
			before := h.snapshot()
			for range 2 { // the second asks for one in quarantine
				_, _, err := a.addLogged(asks)
				if want := "requested address " + addr + " is in use by " + lanMAC; code(err) != 100 || !strings.Contains(err.Error(), want) {
					t.Fatalf("ADD: %v, want code 100 and %q", err, want)
				}
				a.empty("after the ADD that failed")
			}
			m.run("ip", "addr", "flush", "dev", "lan0")
			r, _, err := a.addLogged(asks)
			if err != nil || r.addr("4") != addr && r.addr("6") != addr {
				t.Errorf("ADD when nobody has it: %s, %s, %v", r.addr("4"), r.addr("6"), err)
			}
			a.del(c, r)
			if err := h.gc(c, []string{}); err != nil {
				t.Fatal(err)
			}
			if d := diff(before, h.snapshot()); d != "" {
				t.Errorf("left:\n%s", d)
			}
		})
	}
}

// TestConflictDelegated: what another IPAM plugin gave cannot be replaced.
func TestConflictDelegated(t *testing.T) {
	needsOurs(t)
	t.Parallel()
	h := newHost(t)
	h.lan("10.1.0.2/24")
	c := onLAN("10.1.0.0/24").ipam("type", "host-local").ipam("dataDir", h.dir+"/cni")
	a := h.sandbox("a")
	before := h.snapshot()
	_, log, err := a.addLogged(c)
	if want := "ipam plugin host-local: the address that it gave cannot be used: 10.1.0.2 is in use by " + lanMAC; code(err) != 100 || !strings.Contains(err.Error(), want) {
		t.Errorf("ADD: %v, want code 100 and %q\n%s", err, want, log)
	}
	a.empty("after the ADD that failed")
	if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
		t.Errorf("left:\n%s", d)
	}
}

// TestConflictKilled: killed at any moment around a conflict, nothing is left
// that GC does not clear.
func TestConflictKilled(t *testing.T) {
	needsOurs(t)
	t.Parallel()
	f := &faults{host: newHost(t), report: &faultReport{times: map[faultRow]int{}}}
	f.lan("10.1.0.2/24", "fd00:1::2/64")
	v := &victim{faults: f, c: onLAN(web4, web6), box: f.sandbox("a"), step: 3}
	f.used["web"] = v.c
	before := f.whole()
	step := v.step
	if longFaults() {
		step = 1
	}
	for n := 1; ; n += step {
		cmd, stdin := v.call("ADD")
		change, err := v.kill(cmd, stdin, n)
		if change == "" && err != nil {
			t.Fatalf("ADD, not killed: %v", err)
		}
		if n%2 == 0 && change != "" { // whoever comes next, too
			if err := v.try("ADD"); err != nil && code(err) != 100 {
				t.Fatalf("ADD again after a kill before change %d (%s): %v", n, change, err)
			}
		}
		v.must("GC")
		if d := diff(before, f.whole()); d != "" {
			t.Fatalf("killed before change %d (%s), then GC:\n%s", n, change, d)
		}
		v.box.empty("after GC")
		if change == "" {
			t.Logf("%d changes", n)
			return
		}
	}
}

// TestTwoHosts: two hosts that know nothing of each other give addresses of the
// same range on one LAN, at the same time.
func TestTwoHosts(t *testing.T) {
	needsOurs(t)
	t.Parallel()
	c := onLAN(web4, web6)
	var boxes []*sandbox
	var hosts []*host
	for n := range 2 {
		h := newHost(t)
		hosts = append(hosts, h)
		h.run("ip", "link", "add", "br-web", "up", "type", "bridge")
		h.t.Cleanup(func() { h.run("ip", "link", "delete", "br-web") })
		for i := range 3 {
			boxes = append(boxes, h.sandbox(fmt.Sprintf("c%d-%d", n, i))) // MACs are made of IDs
		}
	}
	hosts[0].run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "nic1")
	t.Cleanup(func() { hosts[0].try("ip", "link", "delete", "nic0") })
	moveTo(t, hosts[0], "nic1", hosts[1])
	hosts[0].run("ip", "link", "set", "nic0", "master", "br-web", "up")
	hosts[1].run("ip", "link", "set", "nic1", "master", "br-web", "up")
	results := make([]result, len(boxes))
	var wg sync.WaitGroup
	for i, b := range boxes {
		wg.Go(func() {
			var err error
			if results[i], err = b.tryAdd(c); err != nil {
				t.Errorf("ADD: %v", err)
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for _, r := range results {
		seen[r.addr("4")]++
		seen[r.addr("6")]++
	}
	if len(seen) != 2*len(boxes) {
		t.Errorf("addresses and how many have them: %v", seen)
	}
	for i, b := range boxes {
		b.del(c, results[i])
	}
}

// moveTo moves a link from one host to another.
func moveTo(t *testing.T, from *host, name string, to *host) {
	t.Helper()
	pid := to.sleeper()
	from.run("ip", "link", "set", name, "netns", fmt.Sprint(pid))
}

// sleeper starts a process on the host that does nothing, for commands that know
// namespaces by processes.
func (h *host) sleeper() int {
	h.t.Helper()
	cmd := h.command("sleep", "3600")
	cmd.Env = nil
	if err := h.do(cmd.Start); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}
