package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestConflists: configurations of the reference bridge plugin, as engines
// ship and write them, work with only the type changed. The files are in
// testdata/conflists; each plugin object but the first is of another plugin
// and is left out here.
func TestConflists(t *testing.T) {
	files, err := filepath.Glob("testdata/conflists/*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conflists: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, ipam := range []string{"as it is", "bowline-ipam"} {
			t.Run(filepath.Base(file)+" ipam "+ipam, func(t *testing.T) {
				t.Parallel()
				c := firstPlugin(t, text)
				if !reference() {
					c["type"] = "bowline-bridge"
				}
				if in, _ := c["ipam"].(map[string]any); in["type"] != nil && ipam != "as it is" && !reference() {
					c = c.ipam("type", ipam)
				}
				wire(t, c)
			})
		}
	}
}

// firstPlugin returns what a runtime gives the first plugin of a conflist.
func firstPlugin(t *testing.T, text []byte) conf {
	t.Helper()
	var list struct {
		CNIVersion, Name string
		Plugins          []conf
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	return list.Plugins[0].with("cniVersion", list.CNIVersion).with("name", list.Name)
}

// wire attaches two containers, checks them, and takes them away.
func wire(t *testing.T, c conf) {
	t.Helper()
	h := newHost(t)
	out := h.outside()
	a, b := h.sandbox("a"), h.sandbox("b")
	ra, rb := a.add(c), b.add(c)
	for _, ip := range rb.IPs {
		if !a.reaches(ip.Address.Addr().String()) {
			t.Errorf("a does not reach b at %v", ip.Address)
		}
	}
	if c["ipMasq"] == true && rb.addr("4") != "" {
		out.serve("192.0.2.2:80")
		if seen, err := a.ask("192.0.2.2:80"); err != nil || seen != "192.0.2.1" {
			t.Errorf("outside saw %q, %v; want the host's address", seen, err)
		}
	}
	if c["cniVersion"].(string) >= "0.4.0" {
		if err := a.check(c, ra); err != nil {
			t.Errorf("CHECK: %v", err)
		}
	}
	a.del(c, ra)
	b.del(c, rb)
	h.expectNoEndpoint()
}
