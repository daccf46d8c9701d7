package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// The loopback comes up with ADD and goes down with DEL, unless it was up before.
func TestLoopback(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	host := netnstest.New(t)
	sandbox := netnstest.New(t)
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), sandbox.Fd())
	do := func(verb, netnsPath, more string) (string, int) {
		t.Helper()
		for k, v := range map[string]string{"CNI_COMMAND": verb, "CNI_CONTAINERID": "c", "CNI_IFNAME": "eth7", "CNI_NETNS": netnsPath, "CNI_PATH": "/"} {
			t.Setenv(k, v)
		}
		var out bytes.Buffer
		status := 0
		_ = netns.Do(host, func() error {
			status = MainLoopback(strings.NewReader(`{"cniVersion":"1.1.0","name":"l","type":"loopback"`+more+"}"), &out)
			return nil
		})
		return out.String(), status
	}
	up := func(want bool) {
		t.Helper()
		if got := netnstest.Command(t, sandbox, "ip", "-o", "link", "show", "lo"); strings.Contains(got, ",UP") != want || strings.Contains(got, "alias") != want {
			t.Errorf("want it up: %v, got %s", want, got)
		}
	}
	out, status := do("ADD", path, "")
	var r struct {
		Interfaces []struct{ Name, Mac, Sandbox string }
		IPs        []struct {
			Interface int
			Address   string
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 || len(r.Interfaces) != 1 || r.Interfaces[0].Name != "lo" || r.Interfaces[0].Sandbox != path ||
		len(r.IPs) != 2 || r.IPs[0].Address != "127.0.0.1/8" || r.IPs[1].Address != "::1/128" {
		t.Fatalf("ADD: %d, %v, %s", status, err, out)
	}
	up(true)
	if out, status := do("CHECK", path, `,"prevResult":`+out); status != 0 {
		t.Errorf("CHECK: %s", out)
	}
	prev := `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"interface":0,"address":"10.1.0.2/24"}]}`
	if out, status := do("ADD", path, `,"prevResult":`+prev); status != 0 || !strings.Contains(out, "10.1.0.2/24") || strings.Contains(out, "127.0.0.1") {
		t.Errorf("ADD with a result before it: %d, %s", status, out)
	}
	netnstest.Command(t, sandbox, "ip", "link", "set", "lo", "down")
	if out, status := do("CHECK", path, ""); status == 0 || !strings.Contains(out, "state down") {
		t.Errorf("CHECK of one that is down: %d, %s", status, out)
	}
	if out, status := do("ADD", path, ""); status != 0 {
		t.Errorf("ADD again: %s", out)
	}
	for range 2 {
		if out, status := do("DEL", path, ""); status != 0 || out != "" {
			t.Errorf("DEL: %d, %s", status, out)
		}
		up(false)
	}
	netnstest.Command(t, sandbox, "ip", "link", "set", "lo", "up")
	for _, verb := range []string{"ADD", "DEL"} {
		if out, status := do(verb, path, ""); status != 0 {
			t.Errorf("%s: %s", verb, out)
		}
	}
	if got := netnstest.Command(t, sandbox, "ip", "-o", "link", "show", "lo"); !strings.Contains(got, ",UP") {
		t.Errorf("DEL took down a loopback that was up before: %s", got)
	}
	for _, gone := range []string{"", "/nowhere"} {
		if out, status := do("DEL", gone, ""); status != 0 {
			t.Errorf("DEL without a namespace, %q: %s", gone, out)
		}
	}
	if out, status := do("ADD", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), host.Fd()), ""); status == 0 || !strings.Contains(out, `"code": 8`) {
		t.Errorf("ADD of the host's own: %s", out)
	}
	for _, verb := range []string{"STATUS", "GC", "VERSION"} {
		if out, status := do(verb, path, ""); status != 0 {
			t.Errorf("%s: %s", verb, out)
		}
	}
}
