package e2e

import (
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

// TestConnectPublish: bowline connect -p and bowline ls, as a person would.
func TestConnectPublish(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	bowline := func(args ...string) string {
		t.Helper()
		return h.run(bin("bowline"), args...)
	}
	bowline("network", "create", "web", "--subnet", web4)
	path := strings.Fields(bowline("sandbox", "create", "c1"))[1]
	said := bowline("connect", "c1", "web", "-p", "8080:80", "-p", "8000-8009:8000-8009", "-p", "127.0.0.1::81/udp")
	for _, want := range []string{"8080->80/tcp", "8000-8009->8000-8009/tcp", "127.0.0.1:", "->81/udp"} {
		if !strings.Contains(said, want) || !strings.Contains(bowline("ls"), want) {
			t.Errorf("connect said %q and ls\n%s\nwant %s in both", said, bowline("ls"), want)
		}
	}
	if strings.Contains(said, ":0->") {
		t.Errorf("connect said %q, not which port was chosen", said)
	}
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	c1 := &sandbox{h: h, id: "c1", path: path, ns: ns}
	c1.serve("0.0.0.0:80")
	c1.serve("0.0.0.0:8009")
	out.sees("192.0.2.1:8080", "192.0.2.2")
	out.sees("192.0.2.1:8009", "192.0.2.2")
	bowline("sandbox", "create", "c2")
	if said, err := h.try(bin("bowline"), "connect", "c2", "web", "-p", "8005:5"); err == nil || !strings.Contains(said, `port 8005/tcp is taken`) {
		t.Errorf("connect with a taken port: %v, %s", err, said)
	}
	if said, err := h.try(bin("bowline"), "connect", "c2", "web", "-p", "8080:http"); err == nil || !strings.Contains(said, `port "8080:http": want`) {
		t.Errorf("connect with a wrong port: %v, %s", err, said)
	}
	bowline("disconnect", "c1", "web")
	out.refused("192.0.2.1:8080")
	bowline("connect", "c2", "web", "-p", "8005:5")
	bowline("sandbox", "rm", "c1", "c2")
	bowline("network", "rm", "web")
}
