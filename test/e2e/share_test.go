package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestShareHost: a container in the host's namespace is told what is there.
func TestShareHost(t *testing.T) {
	if reference() {
		t.Skip("the reference plugins refuse it")
	}
	t.Parallel()
	h := newHost(t)
	h.nic("nic0")
	before := h.apart()
	own := &sandbox{h: h, id: "one", path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()), ns: h.ns}
	c := conf{"cniVersion": "1.1.0", "name": "hostnet", "type": "bowline-host"}
	for _, version := range []string{"0.3.1", "1.0.0", "1.1.0"} {
		r := own.add(c.with("cniVersion", version))
		if r.addr("4") != "198.51.100.1" || r.addr("6") != "2001:db8:5::1" || len(r.Interfaces) != 1 || r.Interfaces[0].Name != "nic0" || r.Interfaces[0].Sandbox != own.path {
			t.Errorf("%s: result %s", version, r.raw)
		}
		if version != "0.3.1" {
			if err := own.check(c.with("cniVersion", version), r); err != nil {
				t.Errorf("%s: CHECK: %v", version, err)
			}
		}
		if d := diff(before, h.apart()); d != "" {
			t.Errorf("after ADD the host is not as it was:\n%s", d)
		}
		own.del(c.with("cniVersion", version), r)
		if d := diff(before, h.apart()); d != "" {
			t.Errorf("after DEL the host is not as it was:\n%s", d)
		}
	}
	r := own.add(c)
	h.run("ip", "addr", "del", "198.51.100.1/24", "dev", "nic0")
	if err := own.check(c, r); code(err) != 102 || !strings.Contains(err.Error(), "host's link nic0 has no address, want 198.51.100.1/24") {
		t.Errorf("CHECK of an address that is gone: %v", err)
	}
	h.run("ip", "addr", "add", "198.51.100.1/24", "dev", "nic0")
	h.run("ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.9")
	for _, tt := range []struct {
		c    conf
		want string
	}{
		{c.with("device", "nic0"), "in the host's the NIC is already"},
		{c.with("ipam", map[string]any{"type": "bowline-ipam", "subnet": "10.1.0.0/24"}), "ipam: want none for a container that shares"},
		{network("web", "10.1.0.0/24"), "is the namespace that the plugin runs in"},
	} {
		if _, err := own.tryAdd(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.c, err, tt.want)
		}
	}
	delete(h.used, "web")
	if err := h.gc(c, []string{}); err != nil {
		t.Errorf("GC: %v", err)
	}
	if err := h.status(c); err != nil {
		t.Errorf("STATUS: %v", err)
	}
}

// TestLoopback: our plugin does what the reference one does.
func TestLoopback(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := filepath.Join(h.dir, "cni-bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(dir, "loopback")
	if err := os.Symlink(bin("bowline-host"), ours); err != nil {
		t.Fatal(err)
	}
	var results []string
	for _, plugin := range []string{filepath.Join(referenceDir(), "loopback"), ours} {
		for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			box := h.sandbox("one")
			box.run("ip", "link", "set", "lo", "down")
			stdin, err := json.Marshal(conf{"cniVersion": version, "name": "lo", "type": "loopback"})
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, verb := range []string{"ADD", "CHECK", "DEL", "DEL"} {
				if verb == "CHECK" && version == "0.3.1" {
					continue
				}
				out, err := h.cniRaw(plugin, stdin, call{verb: verb, id: "one", netns: box.path, ifname: "eth0"})
				var v any
				if len(out) > 0 {
					if jerr := json.Unmarshal(out, &v); jerr != nil {
						t.Fatal(jerr)
					}
				}
				// Before 1.0.0 addresses have a version, which the reference leaves out.
				text := strings.NewReplacer(" version:4", "", " version:6", "", " dns:map[]", "").Replace(fmt.Sprint(v))
				all = append(all, fmt.Sprint(verb, text, err, strings.Contains(box.run("ip", "link", "show", "lo"), ",UP")))
			}
			box.end()
			results = append(results, strings.Join(all, "\n"))
		}
	}
	if half := len(results) / 2; !slices.Equal(results[:half], results[half:]) {
		t.Errorf("the reference\n%s\nours\n%s", strings.Join(results[:half], "\n"), strings.Join(results[half:], "\n"))
	}
}
