package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

// TestNerdctlOrder calls as nerdctl was seen to do: DEL before each ADD, a
// namespace of /proc, and at the end two DELs without one. nerdctl itself is in
// no package that the tests could install.
func TestNerdctlOrder(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	const (
		id   = "default-7886ba4ba3fc6c6c817df217f5901ceafa51ea4edbf38425fb902c62f73e28bf"
		args = "IgnoreUnknown=1;IP=10.1.0.33;MAC=02:00:00:00:00:33"
	)
	asks := func(port int) map[string]any {
		return map[string]any{
			"aliases":      map[string]any{"web": []string{"one"}},
			"portMappings": []any{map[string]any{"HostPort": port, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "0.0.0.0"}},
		}
	}
	c := network("web", web4, web6).with("cniVersion", "1.0.0").
		with("capabilities", map[string]bool{"aliases": true, "ips": true, "mac": true, "portMappings": true}).
		with("runtimeConfig", asks(18401))
	other := h.sandbox("other")
	other.add(c.with("runtimeConfig", asks(18402)))
	for range 2 { // run, and start after a stop
		before := h.snapshot()
		s := h.sandbox("one")
		init := h.command("sleep", "1000")
		if err := netns.Do(s.ns, init.Start); err != nil {
			t.Fatal(err)
		}
		path := fmt.Sprintf("/proc/%d/ns/net", init.Process.Pid)
		call := func(verb, netns, args string, c conf) []byte {
			t.Helper()
			out, err := h.cni(c, call{verb: verb, id: id, netns: netns, ifname: "eth0", args: args})
			if err != nil {
				t.Fatalf("%s: %v", verb, err)
			}
			return out
		}
		call("DEL", "", args+";NERDCTL_CNI_DHCP_HOSTNAME=one", c)
		result := call("ADD", path, args+";NERDCTL_CNI_DHCP_HOSTNAME=one", c)
		for _, addr := range []string{"10.1.0.33", outside4} {
			if from := map[bool]*sandbox{true: s, false: other}[addr == outside4]; !from.reaches(addr) {
				t.Errorf("%s does not reach %s", from.id, addr)
			}
		}
		s.serve("[::]:80")
		if seen, err := out.ask(host4 + ":18401"); err != nil || strings.TrimPrefix(seen, "::ffff:") != outside4 {
			t.Errorf("the published port sees %q, %v; want %s", seen, err, outside4)
		}
		if err := init.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = init.Wait() // killed
		call("DEL", "", "", c.with("prevResult", json.RawMessage(result)))
		call("DEL", "", args, c)
		s.end()
		if d := diff(before, h.snapshot()); d != "" {
			t.Errorf("a container leaves\n%s", d)
		}
	}
	if !other.reaches(outside4) {
		t.Error("another container does not reach what is outside")
	}
}
