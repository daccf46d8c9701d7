package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// The test binary is the command line itself if this is in its environment.
const asBowline = "BOWLINE_TEST_AS_BOWLINE"

func TestMain(m *testing.M) {
	if os.Getenv(asBowline) == "1" {
		main()
	}
	cobra.EnableCommandSorting = false // as main does
	os.Exit(m.Run())
}

// A host is a network namespace with directories of its own, in which the
// command line runs.
type host struct {
	t   *testing.T
	ns  *netns.Handle
	dir string
	env []string
}

func newHost(t *testing.T) *host {
	h := &host{t: t, ns: netnstest.New(t), dir: t.TempDir()}
	h.env = append(os.Environ(), asBowline+"=1", "BOWLINE_RUN_DIR="+h.dir+"/run", "BOWLINE_LIB_DIR="+h.dir+"/lib",
		"BOWLINE_PLUGIN_DIR="+h.dir+"/plugins", "BOWLINE_CNI_PATH="+referenceDir(t))
	t.Cleanup(func() {
		left, _ := filepath.Glob(h.dir + "/run/netns/*")
		for _, path := range left {
			netns.Remove(path)
		}
	})
	return h
}

// referenceDir returns where the reference plugins are.
func referenceDir(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("BOWLINE_REFERENCE_CNI"), "/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "host-local")); err == nil && dir != "" {
			return dir
		}
	}
	netnstest.Skip(t, "needs the CNI reference plugins, in $BOWLINE_REFERENCE_CNI or /usr/lib/cni")
	return ""
}

// run runs the command line on the host and returns what it prints and its exit
// code.
func (h *host) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = h.env, &out, &errOut
	err := netns.Do(h.ns, cmd.Run)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// ok is run for what must succeed.
func (h *host) ok(args ...string) string {
	h.t.Helper()
	out, errOut, code := h.run(args...)
	if code != 0 {
		h.t.Fatalf("bowline %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// conflist writes the configuration of a reference bridge network to a file.
func (h *host) conflist(name, bridge, subnet string) string {
	path := filepath.Join(h.dir, name+".conflist")
	text := fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"bridge","bridge":%q,"isGateway":true,
		"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]]}}]}`, name, bridge, h.dir+"/leases", subnet)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func TestEveryDay(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if got, want := h.ok("network", "create", "--conf", h.conflist("web", "br0", "10.9.0.0/24")), "web  10.9.0.0/24\n"; got != want {
		t.Errorf("network create: got %q, want %q", got, want)
	}
	h.ok("network", "create", "--conf", h.conflist("db", "br1", "10.10.0.0/24"))
	h.ok("sandbox", "create", "one", "two")
	if got, want := h.ok("connect", "one", "web"), "eth0  10.9.0.2/24\n"; got != want {
		t.Errorf("connect: got %q, want %q", got, want)
	}
	h.ok("connect", "two", "web", "--ip", "10.9.0.9")
	h.ok("connect", "one", "db")
	h.ok("sandbox", "exec", "one", "ping", "-c1", "-W2", "10.9.0.9")
	const rows = "NETWORK  CONTAINER  LINK  ADDRESSES     PORTS  DRIVER  ENGINE\n" +
		"db       one        eth1  10.10.0.2/24  -      bridge  bowline\n" +
		"web      one        eth0  10.9.0.2/24   -      bridge  bowline\n" +
		"web      two        eth0  10.9.0.9/24   -      bridge  bowline\n"
	if got := h.ok("ls"); got != rows {
		t.Errorf("ls:\n%s\nwant\n%s", got, rows)
	}
	var endpoints []struct{ Network, Container string }
	if err := json.Unmarshal([]byte(h.ok("ls", "--json")), &endpoints); err != nil || len(endpoints) != 3 {
		t.Errorf("ls --json: %v, %v", endpoints, err)
	}
	if got := h.ok("network", "inspect", "web"); !strings.Contains(got, "one eth0 10.9.0.2/24") || !strings.Contains(got, `"type": "host-local"`) {
		t.Errorf("network inspect: %s", got)
	}
	if got, want := h.ok("check"), "0 of 3 attachments differ\n"; got != want {
		t.Errorf("check: got %q, want %q", got, want)
	}
	h.ok("sandbox", "exec", "one", "--", "ip", "link", "set", "eth0", "down")
	h.ok("sandbox", "exec", "one", "--", "ip", "addr", "flush", "dev", "eth0")
	if out, _, code := h.run("check", "one"); code != exitFound || !strings.Contains(out, "1 of 2 attachments differ") {
		t.Errorf("check after damage: exit code %d, %s", code, out)
	}
	if _, errOut, code := h.run("network", "rm", "web"); code != exitFailed || !strings.Contains(errOut, `attached are ["one" "two"]`) {
		t.Errorf("network rm: exit code %d, %s", code, errOut)
	}
	h.ok("disconnect", "one", "web")
	h.ok("sandbox", "rm", "one", "two")
	h.ok("network", "rm", "web", "db")
	if got, want := h.ok("sandbox", "ls"), "SANDBOX  STATE  NAMESPACE  NETWORKS\n"; got != want {
		t.Errorf("sandbox ls: got %q, want %q", got, want)
	}
	if got := h.ok("network", "ls", "--json"); got != "[]\n" {
		t.Errorf("network ls --json: %q", got)
	}
	if left, _ := filepath.Glob(h.dir + "/leases/*/10.*"); len(left) > 0 {
		t.Errorf("leases left: %v", left)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.ok("sandbox", "create", "one")
	tests := []struct {
		args string
		code int
		want string // on standard error
	}{
		{"sandbox exec one true", 0, ""},
		{"sandbox exec one -- sh -c 'exit 77'", 77, ""},
		{"sandbox exec one nonesuch", 127, "bowline: cannot run nonesuch: executable file not found in $PATH\n"},
		{"sandbox exec two true", 1, "bowline: no sandbox \"two\"; \"bowline sandbox ls\" lists them\n"},
		{"sandbox exec one", 2, "bowline: COMMAND is missing; see \"bowline sandbox exec --help\"\n"},
		{"sandbox exec one --", 2, "bowline: COMMAND is missing; see \"bowline sandbox exec --help\"\n"},
		{"sandbox create one", 1, "bowline: sandbox \"one\" exists already\n"},
		{"sandbox create --network bridge two", 2, "bowline: --network bridge: want none or host; \"bowline connect\" attaches a sandbox to other networks; see \"bowline sandbox create --help\"\n"},
		{"sandbox create --network none --netns /proc/1/ns/net two", 2, "bowline: --netns /proc/1/ns/net and --network none: want one of them; see \"bowline sandbox create --help\"\n"},
		{"sandbox create a/b", 1, "bowline: sandbox name \"a/b\": want 1 to 64 letters, digits, \"_\", \".\" or \"-\", the first a letter or digit\n"},
		{"connect one", 2, "bowline: NETWORK is missing; see \"bowline connect --help\"\n"},
		{"connect one web --ip x", 2, "bowline: --ip x: want an IPv4 or IPv6 address; see \"bowline connect --help\"\n"},
		{"connect one web --mac 1:2", 2, "bowline: --mac 1:2: want six bytes, such as 02:42:0a:00:00:01; see \"bowline connect --help\"\n"},
		{"connect one web", 1, "bowline: no network \"web\"; \"bowline network ls\" lists them\n"},
		{"network create", 2, "bowline: NAME is missing; see \"bowline network create --help\"\n"},
		{"network create web --subnet 10.1.2.3/24", 2, "bowline: --subnet 10.1.2.3/24: want a prefix without host bits, such as 10.1.0.0/24 or fd00:1::/64; see \"bowline network create --help\"\n"},
		{"network create web --opt mtu", 2, "bowline: --opt mtu: want KEY=VALUE; see \"bowline network create --help\"\n"},
		{"network create --conf x --mtu 9", 2, "bowline: --mtu cannot go with --conf, which says it all; see \"bowline network create --help\"\n"},
		{"network crate web", 2, "bowline: bowline network has no command \"crate\", but [\"create\"]; see \"bowline network --help\"\n"},
		{"ls more", 2, "bowline: unexpected \"more\"; see \"bowline ls --help\"\n"},
		{"gc --drie-run", 2, "bowline: unknown flag: --drie-run; see \"bowline gc --help\"\n"},
		{"completion csh", 2, "bowline: SHELL \"csh\": want bash, zsh or fish; see \"bowline completion --help\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			h := *h
			h.t = t
			args := strings.Fields(tt.args)
			if i := slices.Index(args, "'exit"); i > 0 {
				args = append(args[:i], "exit 77")
			}
			if _, errOut, code := h.run(args...); code != tt.code || errOut != tt.want {
				t.Errorf("exit code %d, want %d\n got %s\nwant %s", code, tt.code, errOut, tt.want)
			}
		})
	}
}

// slow is a host with a network "web", whose plugin waits in ADD until it is
// killed, and a sandbox "one". connecting returns a bowline that is in the
// middle of connecting the two.
func slow(t *testing.T) (h *host, connecting func() *exec.Cmd) {
	h = newHost(t)
	script := "#!/bin/sh\necho $CNI_COMMAND $CNI_NETNS >>" + h.dir + "/calls\n" +
		"case $CNI_COMMAND in VERSION) echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}';;\n" +
		"ADD) echo begun >" + h.dir + "/fifo; exec sleep 1000;; esac\n"
	if err := errors.Join(os.WriteFile(h.dir+"/slow", []byte(script), 0o755), unix.Mkfifo(h.dir+"/fifo", 0o600),
		os.WriteFile(h.dir+"/slow.conf", []byte(`{"cniVersion":"1.0.0","name":"web","type":"slow"}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "BOWLINE_CNI_PATH="+h.dir)
	h.ok("network", "create", "--conf", h.dir+"/slow.conf")
	h.ok("sandbox", "create", "one")
	return h, func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", "connect", "one", "web")
		cmd.Env, cmd.Stderr = h.env, new(bytes.Buffer)
		if err := netns.Do(h.ns, cmd.Start); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadFile(h.dir + "/fifo"); err != nil { // until the plugin has begun
			t.Fatal(err)
		}
		return cmd
	}
}

// lastCall returns what the plugin of slow was called with last.
func (h *host) lastCall() string {
	calls, _ := os.ReadFile(h.dir + "/calls")
	lines := strings.Split(strings.TrimSpace(string(calls)), "\n")
	return strings.ReplaceAll(lines[len(lines)-1], h.dir, "")
}

// A bowline that is killed while a plugin works leaves a record, and gc clears it.
func TestKilledWhileConnecting(t *testing.T) {
	t.Parallel()
	h, connecting := slow(t)
	cmd := connecting()
	cmd.Process.Kill()
	cmd.Wait()
	if got := h.ok("ls"); !strings.Contains(got, "bowline (unfinished)") {
		t.Errorf("ls: %s", got)
	}
	if got := h.ok("gc"); !strings.Contains(got, "attachment  one/eth0  was never finished") {
		t.Errorf("gc: %s", got)
	}
	if got, want := h.lastCall(), "DEL /run/netns/one"; got != want {
		t.Errorf("the last call of the plugin was %q, want %q", got, want)
	}
	if got := h.ok("ls", "--json"); got != "[]\n" {
		t.Errorf("ls after gc: %s", got)
	}
	h.ok("sandbox", "rm", "one")
}

// A bowline that is interrupted takes back what it did by itself.
func TestInterruptedWhileConnecting(t *testing.T) {
	t.Parallel()
	h, connecting := slow(t)
	cmd := connecting()
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	errOut := cmd.Stderr.(*bytes.Buffer).String()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(errOut, "interrupted") {
		t.Errorf("exit code %d, %s", code, errOut)
	}
	if got, want := h.lastCall(), "DEL /run/netns/one"; got != want {
		t.Errorf("the last call of the plugin was %q, want %q", got, want)
	}
	if got := h.ok("ls", "--json"); got != "[]\n" {
		t.Errorf("ls: %s", got)
	}
}

// Many at once get different addresses, and a gc among them takes none away.
func TestCrowd(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.ok("network", "create", "--conf", h.conflist("web", "br0", "10.9.0.0/24"))
	const crowd = 8
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			name := fmt.Sprintf("s%d", i)
			for _, argv := range [][]string{{"sandbox", "create", name}, {"connect", name, "web"}, {"gc"}} {
				if out, errOut, code := h.run(argv...); code != 0 {
					t.Errorf("%v: exit code %d: %s%s", argv, code, out, errOut)
				}
			}
		})
	}
	wg.Wait()
	var all []struct{ Addrs []string }
	if err := json.Unmarshal([]byte(h.ok("ls", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	addrs := map[string]bool{}
	for _, e := range all {
		addrs[fmt.Sprint(e.Addrs)] = true
	}
	if len(all) != crowd || len(addrs) != crowd {
		t.Errorf("%d sandboxes are attached with %d different addresses, want %d: %v", len(all), len(addrs), crowd, all)
	}
	for i := range crowd {
		h.ok("sandbox", "exec", fmt.Sprintf("s%d", i), "ping", "-c1", "-W2", "10.9.0.1")
	}
	h.ok("network", "rm", "--force", "web")
	if left, _ := filepath.Glob(h.dir + "/leases/*/10.*"); len(left) > 0 {
		t.Errorf("leases left: %v", left)
	}
}
