package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A bus that anybody may use, who are the test's programs, and that starts none.
const busConfig = `<busconfig><type>system</type><listen>unix:path=BUS</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
`

// firewalld starts the real firewalld on the host with its own configuration
// and message bus, and puts up0 into another zone than the default one, within
// which it would forward.
func (h *host) firewalld() {
	h.t.Helper()
	for _, name := range []string{"firewalld", "firewall-cmd", "dbus-daemon", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			netnstest.Skip(h.t, "needs "+name)
		}
	}
	bus, config := filepath.Join(h.dir, "bus"), filepath.Join(h.dir, "firewalld")
	if err := os.Mkdir(config, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(bus+".conf", []byte(strings.Replace(busConfig, "BUS", bus, 1)), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.env = append(h.env, "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+bus)
	h.daemon("dbus-daemon", "--config-file="+bus+".conf", "--nofork", "--nopidfile")
	eventually(h.t, func() error { _, err := os.Stat(bus); return err })
	// It keeps a directory in /run.
	h.daemon("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs tmpfs /run && exec firewalld --nofork --nopid --system-config "$1" --log-file "$1/log"`, "sh", config)
	eventually(h.t, func() error { _, err := h.try("firewall-cmd", "--state"); return err })
	h.run("firewall-cmd", "--zone=work", "--change-interface=up0")
}

// daemon starts a program on the host, without the mark of what tests leave
// behind, ends it with the test and returns its process's number.
func (h *host) daemon(name string, args ...string) (pid int) {
	h.t.Helper()
	cmd := h.command(name, args...)
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "BOWLINE_E2E_HOST=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.do(cmd.Start); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); h.t.Failed() {
			h.t.Logf("%s: %v\n%s", name, err, out.String())
		}
	})
	return cmd.Process.Pid
}

// TestFirewalld: past the real firewalld, which rejects what it has no zone
// for, containers reach out; a reload, which forgets the bridge, is seen by
// CHECK and mended by the next container; the zone is empty at the end.
func TestFirewalld(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	out.serve("192.0.2.2:80")
	out.serve("[2001:db8::2]:80")
	h.firewalld()
	trusted := func() string {
		return strings.TrimSpace(h.run("firewall-cmd", "--zone=trusted", "--list-interfaces"))
	}
	gets := func(s *sandbox, want bool) {
		t.Helper()
		for _, addr := range []string{"192.0.2.2:80", "[2001:db8::2]:80"} {
			if _, err := s.ask(addr); (err == nil) != want {
				t.Errorf("%s asks %s: %v, want an answer: %v", s.id, addr, err, want)
			}
		}
	}

	c := network("web", web4, web6).with("bridge", "br0")
	a := h.sandbox("a")
	ra := a.add(c)
	gets(a, true)
	if got := trusted(); got != "br0" {
		t.Errorf("zone trusted has %q, want br0", got)
	}
	if err := a.check(c, ra); err != nil {
		t.Errorf("CHECK: %v", err)
	}

	h.run("firewall-cmd", "--reload")
	h.run("firewall-cmd", "--zone=work", "--change-interface=up0")
	gets(a, false)
	if err := a.check(c, ra); err == nil || !strings.Contains(err.Error(), "firewalld has no zone for br0, want trusted") {
		t.Errorf("CHECK after a reload: %v, want an error", err)
	}
	b := h.sandbox("b")
	rb := b.add(c)
	gets(a, true)
	gets(b, true)

	a.del(c, ra)
	b.del(c, rb)
	if err := h.gc(c, []string{}); err != nil {
		t.Fatal(err)
	}
	if got := trusted(); got != "" {
		t.Errorf("zone trusted has %q at the end", got)
	}

	// The user's own choice of a zone is left alone, before and after.
	h.run("firewall-cmd", "--zone=home", "--change-interface=br0")
	r := a.add(c)
	a.del(c, r)
	if err := h.gc(c, []string{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(h.run("firewall-cmd", "--get-zone-of-interface=br0")); got != "home" {
		t.Errorf("br0 is in zone %q, want home as the user had it", got)
	}
}
