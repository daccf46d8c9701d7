package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// bowline runs the command line on the host and returns what it prints.
func (h *host) bowline(args ...string) string {
	h.t.Helper()
	return h.run(bin("bowline"), args...)
}

// reach reports whether a ping from one sandbox of the runtime is answered at addr.
func (h *host) reach(sandbox, addr string) bool {
	_, err := h.try(bin("bowline"), "sandbox", "exec", sandbox, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", addr)
	return err == nil
}

// addrs returns the addresses that connect printed, without their lengths.
func addrs(connected string) []string {
	var all []string
	for _, f := range strings.Fields(connected)[1:] {
		addr, _, _ := strings.Cut(f, "/")
		all = append(all, addr)
	}
	return all
}

func TestRuntimeWires(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web", "--ipv6")
	h.bowline("network", "create", "db", "--subnet", "10.7.0.0/24", "--gateway", "10.7.0.254", "--mtu", "1400", "--internal")
	h.bowline("network", "create", "apart", "--no-icc")
	h.bowline("sandbox", "create", "one", "two", "three")
	one := addrs(h.bowline("connect", "one", "web"))
	two := addrs(h.bowline("connect", "two", "web", "--mac", "02:00:00:00:00:07"))
	if len(one) != 2 || len(two) != 2 {
		t.Fatalf("addresses are %v and %v, want IPv4 and IPv6 each", one, two)
	}
	for _, addr := range two {
		if !h.reach("one", addr) {
			t.Errorf("one does not reach two at %s", addr)
		}
	}
	three := addrs(h.bowline("connect", "three", "db", "--ip", "10.7.0.77"))
	if fmt.Sprint(three) != "[10.7.0.77]" {
		t.Errorf("requested address: got %v", three)
	}
	if h.reach("one", "10.7.0.77") || h.reach("three", one[0]) {
		t.Error("networks reach each other")
	}
	h.bowline("connect", "two", "db")
	if !h.reach("two", "10.7.0.77") {
		t.Error("a sandbox on two networks does not reach its neighbour on the second")
	}
	a, b := addrs(h.bowline("connect", "one", "apart")), addrs(h.bowline("connect", "three", "apart"))
	if h.reach("one", b[0]) || h.reach("three", a[0]) {
		t.Error("containers reach each other on a network without ICC")
	}
	out := h.run(bin("bowline"), "sandbox", "exec", "two", "ip", "link")
	if !strings.Contains(out, "02:00:00:00:00:07") || !strings.Contains(out, "mtu 1400") {
		t.Errorf("links of two are %s", out)
	}
	if got := h.bowline("check"); got != "0 of 6 attachments differ\n" {
		t.Errorf("check: %s", got)
	}
	h.run("nft", "flush", "ruleset")
	if out, err := h.try(bin("bowline"), "check"); err == nil {
		t.Errorf("check after the rules were flushed: %s", out)
	}
	var all []struct{ Engine, Driver, Link string }
	if err := json.Unmarshal([]byte(h.bowline("ls", "--json")), &all); err != nil || len(all) != 6 ||
		all[0].Engine != "bowline" || all[0].Driver != "bridge" || all[0].Link == "" {
		t.Errorf("ls: %v, %+v", err, all)
	}
	h.bowline("sandbox", "rm", "one", "two", "three")
	h.bowline("network", "rm", "web", "db", "apart")
}

// The same name gets the same address again.
func TestRuntimeStickyAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web")
	h.bowline("sandbox", "create", "one", "two", "three")
	first := h.bowline("connect", "one", "web")
	h.bowline("connect", "two", "web")
	h.bowline("sandbox", "rm", "one")
	h.bowline("connect", "three", "web")
	h.bowline("sandbox", "create", "one")
	if again := h.bowline("connect", "one", "web"); again != first {
		t.Errorf("one had %s and has %s", first, again)
	}
	h.bowline("network", "rm", "--force", "web")
	h.bowline("sandbox", "rm", "one", "two", "three")
}

func TestRuntimeRefusesOptions(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for option, want := range map[string]string{
		"mut=1400": "mtu",
		"vlan=x":   "vlan",
	} {
		out, err := h.try(bin("bowline"), "network", "create", "web", "--opt", option)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("--opt %s: %v, %s", option, err, out)
		}
	}
	if got := h.bowline("network", "ls", "--json"); got != "[]\n" {
		t.Errorf("networks are %s", got)
	}
}

// What is left when the kernel's objects, or the namespace, or the bowline
// itself go at the wrong moment is what gc clears.
func TestRuntimeGC(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web", "--ipv6")
	h.bowline("sandbox", "create", "stays", "goes")
	stays := addrs(h.bowline("connect", "stays", "web"))
	h.bowline("connect", "goes", "web")
	h.run("umount", filepath.Join(h.dir, "run/netns/goes"))
	if out := h.bowline("gc", "--dry-run"); !strings.Contains(out, "goes") || strings.Contains(out, "stays") {
		t.Errorf("gc --dry-run: %s", out)
	}
	h.bowline("gc")
	if out := h.bowline("ls"); strings.Contains(out, "goes") || !strings.Contains(out, "stays") {
		t.Errorf("ls after gc: %s", out)
	}
	if out := h.bowline("check"); !strings.HasPrefix(out, "0 of 1 ") {
		t.Errorf("check after gc: %s", out)
	}
	h.bowline("sandbox", "create", "new")
	h.bowline("connect", "new", "web")
	if !h.reach("new", stays[0]) {
		t.Error("a sandbox does not reach one that outlived gc")
	}
	h.bowline("network", "rm", "--force", "web")
	h.bowline("sandbox", "rm", "stays", "new")
}

func TestRuntimeCrowd(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web", "--ipv6")
	const crowd = 16
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			name := fmt.Sprintf("s%d", i)
			for _, argv := range [][]string{
				{"sandbox", "create", name}, {"connect", name, "web"}, {"disconnect", name, "web"}, {"gc"}, {"connect", name, "web"},
			} {
				if out, err := h.try(bin("bowline"), argv...); err != nil {
					t.Errorf("%v: %v: %s", argv, err, out)
				}
			}
		})
	}
	wg.Wait()
	var all []struct{ Addrs []string }
	if err := json.Unmarshal([]byte(h.bowline("ls", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range all {
		seen[fmt.Sprint(e.Addrs)] = true
	}
	if len(all) != crowd || len(seen) != crowd {
		t.Errorf("%d sandboxes are attached with %d different addresses, want %d", len(all), len(seen), crowd)
	}
	if out := h.bowline("check"); out != fmt.Sprintf("0 of %d attachments differ\n", crowd) {
		t.Errorf("check: %s", out)
	}
	h.bowline("network", "rm", "--force", "web")
	for i := range crowd {
		h.bowline("sandbox", "rm", fmt.Sprintf("s%d", i))
	}
}

// A bowline that is killed at any moment of connecting or disconnecting leaves
// nothing that gc does not clear.
func TestRuntimeKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web", "--ipv6")
	h.bowline("sandbox", "create", "stays", "one")
	stays := addrs(h.bowline("connect", "stays", "web"))
	killed := 0
	for i := range 60 {
		verb := []string{"connect", "disconnect"}[i%2]
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*400*time.Microsecond)
		cmd := exec.CommandContext(ctx, bin("bowline"), verb, "one", "web")
		cmd.Env = h.env
		_ = netns.Do(h.ns, cmd.Run) // what it left is what counts
		if ctx.Err() != nil {
			killed++
		}
		cancel()
	}
	if killed == 0 {
		t.Error("nothing was killed, so nothing was tested")
	}
	h.age(".tmp-*")
	h.bowline("gc")
	if out := h.bowline("check"); !strings.HasPrefix(out, "0 of ") {
		t.Errorf("check: %s", out)
	}
	_, _ = h.try(bin("bowline"), "disconnect", "one", "web") // it may be attached or not
	addr := addrs(h.bowline("connect", "one", "web"))
	if len(addr) != 2 || !h.reach("one", stays[0]) || !h.reach("one", stays[1]) {
		t.Errorf("one, at %v, does not reach %v", addr, stays)
	}
	h.bowline("sandbox", "rm", "stays", "one")
	h.bowline("network", "rm", "web")
}

// age makes files of that pattern among the records an hour old: gc leaves alone
// what somebody may be writing.
func (h *host) age(pattern string) {
	h.t.Helper()
	hourAgo := time.Now().Add(-time.Hour)
	for _, name := range h.records() {
		if ok, _ := filepath.Match(pattern, filepath.Base(name)); ok {
			if err := os.Chtimes(filepath.Join(h.dir, name), hourAgo, hourAgo); err != nil {
				h.t.Error(err)
			}
		}
	}
}
