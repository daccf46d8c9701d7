package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A planStep is a line of "explain" as users read it.
type planStep struct{ Plugin, Kind, Where, What string }

type explanation struct {
	Steps  []planStep
	Result json.RawMessage
	Error  string
}

// explain asks what a command would do, and fails if the host is not as before.
func (h *host) explain(verb string, conf any, args ...string) explanation {
	h.t.Helper()
	before := h.snapshot()
	in, err := json.Marshal(conf)
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := h.command(bin("bowline"), append([]string{"explain", verb, "--json"}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
	if err := h.do(cmd.Run); err != nil && out.Len() == 0 {
		h.t.Fatalf("explain %s: %v: %s", verb, err, errOut.String())
	}
	if d := diff(before, h.snapshot()); d != "" {
		h.t.Fatalf("explaining changed the host:\n%s", d)
	}
	var x explanation
	if err := json.Unmarshal(out.Bytes(), &x); err != nil {
		h.t.Fatalf("%v: %s", err, out.String())
	}
	return x
}

// has reports whether a step begins so.
func (x explanation) has(where, prefix string) bool {
	for _, s := range x.Steps {
		if s.Where == where && strings.HasPrefix(s.What, prefix) {
			return true
		}
	}
	return false
}

// holds compares each step with what is there after the command itself.
func (x explanation) holds(s *sandbox) {
	t := s.h.t
	t.Helper()
	hosts, sandboxs := s.h.run("nft", "list", "ruleset"), s.run("nft", "list", "ruleset")
	for _, p := range x.Steps {
		run, rules := s.h.try, hosts
		if p.Where == "sandbox" {
			run, rules = s.try, sandboxs
		}
		words := strings.Fields(p.What)
		var out, want string
		switch {
		case p.Kind == "sysctl":
			key, value, _ := strings.Cut(p.What, "=")
			out, _ = run("cat", "/proc/sys/"+key)
			want = value + "\n"
		case strings.HasPrefix(p.What, "ip link add "), strings.HasPrefix(p.What, "ip link set "):
			out, _ = run("ip", "link", "show", words[3])
			want = words[3]
		case strings.HasPrefix(p.What, "ip addr add "):
			out, _ = run("ip", "addr", "show", words[5])
			want = words[3]
		case strings.HasPrefix(p.What, "ip route add "):
			out, _ = run("ip", "route", "show", words[3])
			more, _ := run("ip", "-6", "route", "show", words[3])
			out, want = out+more, strings.NewReplacer("/32 ", " ", "/128 ", " ").Replace(strings.Join(words[3:], " "))
		case strings.HasPrefix(p.What, "add element "):
			_, element, _ := strings.Cut(p.What, "{ ")
			out, want = rules, strings.TrimSuffix(element, " }")
		case strings.HasPrefix(p.What, "add table "):
			out, want = rules, strings.Join(words[1:4], " ")
		case strings.HasPrefix(p.What, "add chain "), strings.HasPrefix(p.What, "add set "), strings.HasPrefix(p.What, "add map "):
			out, want = rules, words[1]+" "+words[4]+" {"
		case p.Kind == "record":
			path := strings.TrimSuffix(words[1], "+")
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("step %q, but: %v", p.What, err)
			}
		case p.Kind == "address":
			out, want = s.run("ip", "addr", "show", "eth0"), words[1]+"/"
		}
		if !strings.Contains(out, want) {
			t.Errorf("step %q, but afterwards there is no %q in\n%s", p.What, want, out)
		}
	}
}

// The plan of an ADD, on a host without the network and on one with it, is what
// the ADD does; and that of a DEL.
func TestExplain(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", "10.1.0.0/24", web6).with("ipMasq", true).with("isDefaultGateway", true)
	for i, id := range []string{"a", "b"} {
		s := h.sandbox(id)
		x := h.explain("ADD", c, "--container", id, "--netns", s.path)
		if x.Error != "" {
			t.Fatal(x.Error)
		}
		for _, prefix := range []string{"ip link add bwo", "add element ip bowline ", "take 10.1.0.", "write " + h.dir + "/run/endpoints/"} {
			if !x.has("host", prefix) {
				t.Errorf("no step %q... in %+v", prefix, x.Steps)
			}
		}
		for _, prefix := range []string{"ip addr add 10.1.0.", "ip addr add fd00", "ip link set eth0 up", "ip route add default via 10.1.0.1"} {
			if !x.has("sandbox", prefix) {
				t.Errorf("no step %q... in the sandbox, of %+v", prefix, x.Steps)
			}
		}
		for _, prefix := range []string{"ip link add br-web", "add table ip bowline", "ip addr add 10.1.0.1/24"} {
			if x.has("host", prefix) != (i == 0) {
				t.Errorf("container %s: step %q...: %v, for the network is there: %v", id, prefix, x.has("host", prefix), i > 0)
			}
		}
		r := s.add(c)
		x.holds(s)
		var would result
		if err := json.Unmarshal(x.Result, &would); err != nil || would.addr("4") != r.addr("4") || would.addr("6") != r.addr("6") {
			t.Errorf("it would get %s and %s, and got %s and %s: %v", would.addr("4"), would.addr("6"), r.addr("4"), r.addr("6"), err)
		}
		if again := h.explain("ADD", c, "--container", id, "--netns", s.path); !strings.Contains(again.Error, "attached already") {
			t.Errorf("a second ADD would fail: %+v", again)
		}
		if i == 0 {
			continue
		}
		if x := h.explain("DEL", c, "--container", id, "--netns", s.path); !x.has("host", "ip link del bwo") || !x.has("host", "release "+r.addr("4")) || !x.has("host", "remove "+h.dir+"/run/endpoints/") {
			t.Errorf("DEL: %+v", x)
		}
	}
}

// Chains, delegated plugins and what is wrong.
func TestExplainOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	list := map[string]any{"cniVersion": "1.0.0", "name": "web", "plugins": []any{
		network("web", "10.1.0.0/24").with("ipam", map[string]any{"type": "host-local", "subnet": "10.1.0.0/24"}), map[string]any{"type": "portmap"},
	}}
	x := h.explain("ADD", list)
	if x.Error != "" || !x.has("host", "CNI_COMMAND=ADD CNI_CONTAINERID=explain") || !x.has("host", "run portmap ADD: not a plugin of ours") {
		t.Errorf("a chain: %+v", x)
	}
	if x := h.explain("ADD", network("web", "10.1.0.0/24").with("mut", "1400")); !strings.Contains(x.Error, "mut") || len(x.Steps) > 0 {
		t.Errorf("a wrong option: %+v", x)
	}
	if out, err := h.try(bin("bowline"), "explain", "CHECK"); err == nil || !strings.Contains(out, "want ADD or DEL") {
		t.Errorf("explain CHECK: %v: %s", err, out)
	}
}

// Who may change nothing at all can still ask.
func TestExplainWithoutPrivileges(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		if _, err := exec.LookPath("setpriv"); err != nil {
			t.Fatal(err)
		}
		h := k.host(t)
		c, other := k.network("web", "10.1.0.0/24", web6), k.network("other", "10.2.0.0/24")
		plugin := fmt.Sprint(c["type"])
		dir, err := os.MkdirTemp("/tmp", "bowline-nobody") // TMPDIR may be closed to others
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		data, err := os.ReadFile(bin(plugin))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, plugin), data, 0o755)
		}
		if err == nil {
			err = os.Chmod(dir, 0o1777)
		}
		if err != nil {
			t.Fatal(err)
		}
		h.sandbox("a").add(other) // records and rules that it must not stumble over
		in, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		cmd := h.command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", filepath.Join(dir, plugin), "explain", "ADD")
		cmd.Env = append(cmd.Env, "TMPDIR="+dir)
		var out, errOut bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
		if err := h.do(cmd.Run); err != nil {
			t.Fatalf("%v: %s%s", err, out.String(), errOut.String())
		}
		wants := []string{"ip link add br-web", "add element ip bowline masq {", "nftables cannot be read without privileges"}
		if k.macvlan() {
			wants = []string{"type macvlan mode bridge", "probe for [10.1.0.2 fd00:1::2]"}
		}
		if c["host-access"] == true {
			wants = append(wants, "add element netdev bowline shim-peers {")
		}
		for _, want := range append(wants,
			"cannot be read without privileges: the plan is that for a host without any records",
			"take 10.1.0.2", fmt.Sprintf("%-8s %-8s %s", "sandbox", "link", "ip link set eth0 up"),
		) {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	})
}

// Ports, limits, settings and a policy are in the plan, too.
func TestExplainEverything(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	c := network("web", "10.1.0.0/24", web6).with("ipMasq", true).with("isDefaultGateway", true).with("macspoofchk", true).
		with("ingressRate", 8000000).with("ingressBurst", 160000).with("egressRate", 8000000).with("egressBurst", 160000).
		with("sysctl", map[string]any{"net.ipv4.conf.IFNAME.arp_filter": "1"}).
		with("runtimeConfig", map[string]any{"portMappings": []any{map[string]any{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}})
	x := h.explain("ADD", c, "--container", "a", "--netns", s.path)
	if x.Error != "" {
		t.Fatal(x.Error)
	}
	for _, prefix := range []string{
		"tc qdisc replace dev bwo", "tc filter add dev bwo", "ip link add bwf", "add element ip bowline port { tcp . 8080 ", "add element bridge bowline allowed {",
	} {
		if !x.has("host", prefix) {
			t.Errorf("no step %q...", prefix)
		}
	}
	if !x.has("sandbox", "net/ipv4/conf/eth0/arp_filter=1") {
		t.Error("no step for the setting of the link")
	}
	r := s.add(c)
	x.holds(s)
	if denied := h.explain("ADD", c.with("policy", []any{"deny egress tcp 25"}), "--container", "b"); !strings.Contains(denied.Error, "8080") {
		t.Errorf("a port that is taken: %q", denied.Error)
	}
	if shy := h.explain("ADD", network("shy", "10.2.0.0/24").with("policy", []any{"deny egress tcp 25"}), "--container", "b"); !shy.has("host", "add element bridge bowline policy-from {") {
		t.Errorf("no step for the policy: %+v", shy)
	}
	s.del(c, r)
}
