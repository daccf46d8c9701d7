package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// exitStatus runs the command line and returns what it prints and how it ends.
func (h *host) exitStatus(args ...string) (out string, status int) {
	h.t.Helper()
	out, err := h.try(bin("bowline"), args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, exit.ExitCode()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return out, 0
}

// TestBowlineRepair: the command line finds the plugins that repair, and calls
// sandboxes by their names.
func TestBowlineRepair(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.env = append(h.env, "XTABLES_LOCKFILE="+h.dir+"/xtables.lock")
	h.bowline("network", "create", "web", "--ipv6")
	h.bowline("sandbox", "create", "one", "two")
	one := addrs(h.bowline("connect", "one", "web"))
	h.bowline("connect", "two", "web")
	if out, status := h.exitStatus("diff"); status != 0 {
		t.Errorf("diff at first: status %d, %s", status, out)
	}
	h.bowline("sandbox", "exec", "one", "ip", "addr", "del", one[0]+"/24", "dev", "eth0")
	h.run("nft", "flush", "ruleset")

	out, status := h.exitStatus("diff", "--json")
	var found []struct {
		Network, Container, Interface, Engine, Place, Key, Have, Want string
		Repaired                                                      bool
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil || status != 3 {
		t.Fatalf("diff: status %d, want 3, and %v in %s", status, err, out)
	}
	seen := map[string]bool{}
	for _, f := range found {
		seen[strings.TrimSpace(f.Container+" "+f.Key)] = true
		if f.Network != "web" || f.Engine != "bowline" && f.Container != "" || f.Repaired || f.Want == "" {
			t.Errorf("diff: %+v", f)
		}
	}
	if !seen["one address"] || !seen["table"] || seen["two address"] {
		t.Errorf("diff tells of %v", seen)
	}
	if out, status := h.exitStatus("repair"); status != 0 || !strings.Contains(out, "  yes  ") || strings.Contains(out, "  no  ") {
		t.Errorf("repair: status %d, %s", status, out)
	}
	if out, status := h.exitStatus("repair"); status != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("a second repair: status %d, %s", status, out)
	}
	if !h.reach("two", one[0]) {
		t.Error("two does not reach one")
	}

	// What cannot be repaired is told by the status, too.
	h.bowline("sandbox", "exec", "one", "ip", "link", "set", "eth0", "down")
	h.bowline("sandbox", "exec", "one", "ip", "link", "set", "eth0", "name", "lost")
	if out, status := h.exitStatus("repair"); status != 3 || !strings.Contains(out, "attach the container again") {
		t.Errorf("repair of a link with another name: status %d, %s", status, out)
	}
	h.bowline("sandbox", "exec", "one", "ip", "link", "set", "lost", "name", "eth0")

	h.daemon(bin("bowline"), "repair", "--watch")
	eventually(t, func() error {
		if !h.reach("two", one[0]) {
			return errors.New("two does not reach one")
		}
		return nil
	})
	h.run("nft", "flush", "ruleset")
	eventually(t, func() error {
		if out, status := h.exitStatus("diff"); status != 0 {
			return fmt.Errorf("status %d, %s", status, out)
		}
		return nil
	})
	h.bowline("disconnect", "one", "web")
	h.bowline("disconnect", "two", "web")
	h.bowline("sandbox", "rm", "one", "two")
	h.bowline("network", "rm", "web")
}
