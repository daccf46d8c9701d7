package e2e

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// TestWrong: each mistake has its code of the specification, names what is
// wrong, and changes nothing.
func TestWrong(t *testing.T) {
	good, onLAN := network("web", web4), lan("web", web4)
	tests := []struct {
		name  string
		conf  conf
		code  int
		names []string // what the message must hold
	}{
		{"unknown key", good.with("mut", 1400), 7, []string{"mut", "mtu"}},
		{"mtu of a wrong type", good.with("mtu", "jumbo"), 7, []string{"mtu", "jumbo"}},
		{"mtu too small", good.with("mtu", 10), 7, []string{"mtu", "10"}},
		{"negative mtu", good.with("mtu", -1), 7, []string{"mtu", "-1"}},
		{"bridge name too long", good.with("bridge", "a-name-longer-than-15"), 7, []string{"bridge", "a-name-longer-than-15"}},
		{"hairpin and promiscuous", good.with("hairpinMode", true).with("promiscMode", true), 7, []string{"hairpinMode", "promiscMode"}},
		{"vlan out of range", good.with("vlan", 4095), 7, []string{"vlan", "4095"}},
		{"mac", good.with("runtimeConfig", map[string]any{"mac": "nonsense"}), 7, []string{"mac", "nonsense"}},
		{"multicast mac", good.with("runtimeConfig", map[string]any{"mac": "01:00:5e:00:00:01"}), 7, []string{"01:00:5e:00:00:01"}},
		{"subnet", good.ipam("ranges", []any{[]any{map[string]any{"subnet": "10.1.0.0/99"}}}), 7, []string{"10.1.0.0/99"}},
		{"subnet too small", good.ipam("ranges", []any{[]any{map[string]any{"subnet": "10.1.0.0/31"}}}), 7, []string{"10.1.0.0/31"}},
		{"range start outside", good.ipam("ranges", []any{[]any{map[string]any{"subnet": web4, "rangeStart": "10.7.0.9"}}}), 7, []string{"10.7.0.9"}},
		{"no ranges", good.ipam("ranges", []any{}), 7, []string{"range"}},
		{"unknown ipam key", good.ipam("ragnes", []any{}), 7, []string{"ragnes", "ranges"}},
		{"requested address outside", good.with("runtimeConfig", map[string]any{"ips": []string{"10.7.0.1"}}), 7, []string{"10.7.0.1"}},
		{"macvlan: unknown key", onLAN.with("hostaccess", true), 7, []string{"hostaccess", "host-access"}},
		{"macvlan: mode", onLAN.with("mode", "brige"), 7, []string{"mode", "brige", "bridge, private, vepa, passthru or source"}},
		{"macvlan: host access without neighbours", onLAN.with("mode", "private").with("host-access", true), 7, []string{"host-access", "private"}},
		{"macvlan: two parents", onLAN.with("parent", "eth1"), 7, []string{"parent", "master", "up0", "eth1"}},
		{"macvlan: no ports", onLAN.with("runtimeConfig", map[string]any{"portMappings": []any{hostPort(8080, 80, "tcp", "")}}), 7, []string{"portMappings", "bowline-macvlan"}},
		{"macvlan: requested address outside", onLAN.with("runtimeConfig", map[string]any{"ips": []string{"10.7.0.1"}}), 7, []string{"10.7.0.1"}},
		{"version of the future", good.with("cniVersion", "9.9.9"), 1, []string{"9.9.9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := hostOf(t, tt.conf)
			s := h.sandbox("a")
			before := h.snapshot()
			out, err := h.cni(tt.conf, call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0"})
			expectError(t, out, err, tt.code, tt.names...)
			if d := diff(before, h.snapshot()); d != "" {
				t.Errorf("the failed ADD changed the host:\n%s", d)
			}
		})
	}
}

// expectError fails the test unless a plugin failed with the code, one line
// that holds the names, and JSON on standard output.
func expectError(t *testing.T, out []byte, err error, want int, names ...string) {
	t.Helper()
	var ce *cniError
	if !errors.As(err, &ce) {
		t.Fatalf("error is %v, stdout %s; want an object with code %d on stdout", err, out, want)
	}
	if ce.Code != want {
		t.Errorf("code %d, want %d: %v", ce.Code, want, ce)
	}
	text := ce.Msg + " " + ce.Details
	for _, name := range names {
		if !strings.Contains(text, name) {
			t.Errorf("message %q does not name %q", text, name)
		}
	}
	if strings.Contains(ce.Msg, "\n") {
		t.Errorf("message is more than one line: %q", ce.Msg)
	}
}

// TestWrongEnvironment: code 4 names the variables, code 6 is for input that
// is not JSON, code 8 or 3 for namespaces that are none.
func TestWrongEnvironment(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	good, err := json.Marshal(network("web", web4))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		stdin []byte
		call  call
		codes []int
		names []string
	}{
		{"no id", good, call{verb: "ADD", netns: s.path, ifname: "eth0"}, []int{4}, []string{"CNI_CONTAINERID"}},
		{"no netns", good, call{verb: "ADD", id: "a", ifname: "eth0"}, []int{4}, []string{"CNI_NETNS"}},
		{"no ifname", good, call{verb: "ADD", id: "a", netns: s.path}, []int{4}, []string{"CNI_IFNAME"}},
		{"nothing", good, call{verb: "ADD"}, []int{4}, []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}},
		{"unknown verb", good, call{verb: "FETCH", id: "a", netns: s.path, ifname: "eth0"}, []int{4}, []string{"CNI_COMMAND", "FETCH"}},
		{"wrong id", good, call{verb: "ADD", id: "../a", netns: s.path, ifname: "eth0"}, []int{4}, []string{"../a"}},
		{"ifname too long", good, call{verb: "ADD", id: "a", netns: s.path, ifname: "a-name-longer-than-15"}, []int{4}, []string{"a-name-longer-than-15"}},
		{"ifname with a slash", good, call{verb: "ADD", id: "a", netns: s.path, ifname: "a/b"}, []int{4}, []string{"a/b"}},
		{"not JSON", []byte("{"), call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0"}, []int{6}, nil},
		{"empty", nil, call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0"}, []int{6}, nil},
		{"network without a name", []byte(`{"cniVersion":"1.1.0","type":"bowline-bridge"}`), call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0"}, []int{7}, []string{"name"}},
		{"namespace not there", good, call{verb: "ADD", id: "a", netns: s.path + "x", ifname: "eth0"}, []int{3, 8}, []string{s.path + "x"}},
		{"namespace is a file", good, call{verb: "ADD", id: "a", netns: "/etc/hostname", ifname: "eth0"}, []int{8}, []string{"/etc/hostname"}},
		{"namespace is the host's", good, call{verb: "ADD", id: "a", netns: "/proc/self/ns/net", ifname: "eth0"}, []int{8}, nil},
		{"interface is there", good, call{verb: "ADD", id: "a", netns: s.path, ifname: "lo"}, []int{4, 7, 100}, []string{"lo"}},
	}
	h.used["web"] = network("web", web4) // the last one comes as far as the bridge
	before := h.snapshot()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := h.cniRaw("bowline-bridge", tt.stdin, tt.call)
			got := code(err)
			want := tt.codes[0]
			for _, c := range tt.codes {
				if c == got {
					want = c
				}
			}
			expectError(t, out, err, want, tt.names...)
			if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
				t.Errorf("the failed command changed the host:\n%s", d)
			}
		})
	}
}

// TestSameContainerTwice: a second ADD of the same interface is an error that
// leaves the first alone.
func TestSameContainerTwice(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		s := h.sandbox("a")
		c := k.network("web", web4, web6)
		r := s.add(c)
		before := h.snapshot()
		if _, err := s.tryAdd(c); err == nil {
			t.Error("second ADD of the same interface succeeded")
		}
		if d := diff(before, h.snapshot()); d != "" {
			t.Errorf("second ADD changed the host:\n%s", d)
		}
		if err := s.check(c, r); err != nil {
			t.Errorf("CHECK after the second ADD: %v", err)
		}
	})
}

// TestFailedAddLeavesNothing: the reference leaves its veth behind when
// something after it fails.
func TestFailedAddLeavesNothing(t *testing.T) {
	for _, k := range kinds() {
		tests := []struct {
			name string
			conf conf
			code int
		}{
			{"pool exhausted", k.network("web", "10.1.0.0/30", web6), 11},
			{"delegated pool exhausted", k.network("web", "10.1.0.0/30").ipam("type", "host-local"), 0},
			{"no IPAM plugin", k.network("web", web4).ipam("type", "no-such-ipam"), 0},
			{"route through nowhere", k.network("web", "10.1.0.0/24").ipam("routes", []any{map[string]any{"dst": "172.30.0.0/16", "gw": "10.99.0.1"}}), 0},
			{"second range exhausted", k.network("web", web4, "10.3.0.0/30"), 11},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				h.sandbox("first").tryAdd(tt.conf) // fills a pool that has one address
				before := h.snapshot()
				s := h.sandbox("a")
				_, err := s.tryAdd(tt.conf)
				if err == nil || tt.code != 0 && code(err) != tt.code {
					t.Errorf("ADD: %v, want code %d", err, tt.code)
				}
				if out := s.run("ip", "-o", "link"); strings.Contains(out, "eth0") {
					t.Errorf("eth0 is in the sandbox: %s", out)
				}
				got := h.snapshot()
				got["mount"] = before["mount"] // the sandbox itself
				if d := diff(before.withoutNetworks(), got.withoutNetworks()); d != "" {
					t.Errorf("the failed ADD changed the host:\n%s", d)
				}
			})
		}
	}
}
