package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// settings returns what the tests of tuning look at.
func (s *sandbox) settings() string {
	s.h.t.Helper()
	out := s.run("sysctl", "-n", "net.core.somaxconn", "net.ipv4.ip_local_port_range")
	var links []struct {
		Flags       []string
		Txqlen, Mtu int
	}
	if text, err := s.try("ip", "-j", "link", "show", "eth0"); err == nil && json.Unmarshal([]byte(text), &links) == nil {
		for _, f := range links[0].Flags {
			if f == "PROMISC" || f == "ALLMULTI" {
				out += f + " "
			}
		}
		out += fmt.Sprintln(links[0].Txqlen, links[0].Mtu, s.run("sysctl", "-n", "net.ipv4.conf.eth0.arp_filter"))
	}
	return strings.Join(strings.Fields(out), " ")
}

// TestTuning: keys of the reference plugin, in the configuration and for one
// container, and what becomes of them at DEL.
func TestTuning(t *testing.T) {
	for _, k := range kinds() {
		sysctls := map[string]string{"net.core.somaxconn": "77", "net.ipv4.ip_local_port_range": "2000 3000", "net/ipv4/conf/IFNAME/arp_filter": "1"}
		args := func(own map[string]any) map[string]any { return map[string]any{"cni": own} }
		const before = "4096 32768 60999"
		tests := []struct {
			name string
			conf conf
			want string
		}{
			{"nothing", k.network("web", web4), before + " 1000 1500 0"},
			{"all", k.network("web", web4).with("sysctl", sysctls).with("promisc", true).with("allmulti", true).with("txQLen", 12).with("mtu", 1400).with("dataDir", "/nowhere"),
				"77 2000 3000 ALLMULTI PROMISC 12 1400 1"},
			{"of one container", k.network("web", web4).with("sysctl", sysctls).with("promisc", true).
				with("args", args(map[string]any{"sysctl": map[string]string{"net.core.somaxconn": "88"}, "promisc": false, "allmulti": true, "txQLen": 0, "mtu": 1300})),
				"88 2000 3000 ALLMULTI 0 1300 1"},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				s := h.sandbox("a")
				if got := s.settings(); got != before {
					t.Fatalf("a new sandbox has %s, want %s", got, before)
				}
				r := s.add(tt.conf)
				if got := s.settings(); got != tt.want {
					t.Errorf("after ADD it has %s, want %s", got, tt.want)
				}
				if err := s.check(tt.conf, r); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				if !s.reaches(r.gateway("4")) {
					t.Error("the gateway does not answer")
				}
				s.del(tt.conf, r)
				if got := s.settings(); got != before {
					t.Errorf("after DEL it has %s, want %s", got, before)
				}
			})
		}
	}
}

// TestTuningRestore: what was changed since, or is wanted by another attachment,
// stays; and a failed ADD leaves things as they were.
func TestTuningRestore(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		s := h.sandbox("a")
		web := k.network("web", web4).with("sysctl", map[string]string{"net.core.somaxconn": "77", "net.core.optmem_max": "11111"})
		db := k.network("db", "10.2.0.0/24").with("sysctl", map[string]string{"net.core.somaxconn": "77"})
		value := func(key string) string { return strings.TrimSpace(s.run("sysctl", "-n", key)) }
		first := s.add(web)
		second, err := s.tryAddAs(db, "eth1", "")
		if err != nil {
			t.Fatal(err)
		}
		s.run("sysctl", "-qw", "net.core.optmem_max=22222")
		s.del(web, first)
		if got := value("net.core.somaxconn"); got != "77" {
			t.Errorf("somaxconn is %s, want 77, for the other attachment asks for it", got)
		}
		if got := value("net.core.optmem_max"); got != "22222" {
			t.Errorf("optmem_max is %s, want what somebody else set", got)
		}
		if _, err := h.cni(db.with("prevResult", second.raw), call{verb: "DEL", id: s.id, netns: s.path, ifname: "eth1"}); err != nil {
			t.Fatal(err)
		}
		broken := k.network("web", web4).with("sysctl", map[string]string{"net.core.somaxconn": "99", "net.ipv4.nothing_such": "1"})
		if _, err := s.tryAdd(broken); err == nil {
			t.Error("ADD with a setting that there is not succeeded")
		}
		broken = k.network("web", web4).with("sysctl", map[string]string{"net.core.somaxconn": "99", "net.ipv4.conf.IFNAME.nothing_such": "1"})
		if _, err := s.tryAdd(broken); err == nil {
			t.Error("ADD with a setting that the link has not succeeded")
		}
		if got := value("net.core.somaxconn"); got != "77" {
			t.Errorf("after failed ADDs somaxconn is %s, want 77", got)
		}
	})
}

// TestTuningChecked: CHECK sees what was changed.
func TestTuningChecked(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		for _, harm := range []string{"sysctl -qw net.core.somaxconn=5", "sysctl -qw net.ipv4.conf.eth0.arp_filter=0", "ip link set eth0 promisc off",
			"ip link set eth0 allmulticast off", "ip link set eth0 txqueuelen 5"} {
			t.Run(harm, func(t *testing.T) {
				h := k.host(t)
				s := h.sandbox("a")
				c := k.network("web", web4).with("sysctl", map[string]string{"net.core.somaxconn": "77", "net.ipv4.conf.IFNAME.arp_filter": "1"}).
					with("promisc", true).with("allmulti", true).with("txQLen", 12)
				r := s.add(c)
				s.run("sh", "-c", harm)
				if err := s.check(c, r); code(err) < 100 || code(err) == 999 {
					t.Errorf("CHECK: %v, want an error of 100 or above that says what differs", err)
				}
				s.del(c, r)
			})
		}
	})
}

// TestTuningWrong: refused before anything is made, by the allow-list too.
func TestTuningWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := h.sandbox("a")
	before := h.snapshot()
	for _, tt := range []struct {
		key   string
		value any
		names string
	}{
		{"sysctl", map[string]string{"kernel.hostname": "x"}, "option sysctl="},
		{"sysctl", map[string]string{"net/../kernel/hostname": "x"}, "option sysctl="},
		{"txQLen", -1, "0 to 2147483647"},
		{"promisc", "maybe", "option promisc="},
		{"mac", "01:00:5e:00:00:01", "unicast"},
	} {
		out, err := h.cni(network("web", web4).with(tt.key, tt.value), call{verb: "ADD", id: s.id, netns: s.path, ifname: "eth0"})
		if code(err) != 7 || !strings.Contains(string(out), tt.names) {
			t.Errorf("%s=%v: %v in %s, want code 7 and %q", tt.key, tt.value, err, out, tt.names)
		}
	}
	// A machine's list is for all that runs on it: the plugin gets one of its
	// own in a mount namespace.
	etc := filepath.Join(h.dir, "etc")
	if err := os.MkdirAll(filepath.Join(etc, "cni", "tuning"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "cni", "tuning", "allowlist.conf"), []byte("^net\\.core\\.somaxconn$\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wrapper := filepath.Join(h.dir, "listed")
	script := "#!/bin/sh\nexec unshare -m sh -c 'mount --bind " + etc + " /etc && exec " + bin("bowline-bridge") + "'\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	asked := network("web", web4).with("type", wrapper).with("sysctl", map[string]string{"net.core.optmem_max": "12345"})
	out, err := h.cni(asked, call{verb: "ADD", id: s.id, netns: s.path, ifname: "eth0"})
	if code(err) != 7 || !strings.Contains(string(out), "key net.core.optmem_max: /etc/cni/tuning/allowlist.conf does not allow it") {
		t.Errorf("setting that is not listed: %v in %s", err, out)
	}
	delete(h.used, "web")
	if d := diff(before, h.snapshot()); d != "" {
		t.Errorf("wrong settings changed the host:\n%s", d)
	}
	listed := asked.with("sysctl", map[string]string{"net.core.somaxconn": "77"})
	if _, err := h.cni(listed, call{verb: "ADD", id: s.id, netns: s.path, ifname: "eth0"}); err != nil {
		t.Errorf("setting that is listed: %v", err)
	}
	s.del(network("web", web4), result{})
	h.used["web"] = network("web", web4)
}
