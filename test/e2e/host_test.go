package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A host is a machine of the test's own: a network namespace, and directories
// for what Bowline keeps. It ends with the test, which fails if the host is
// not then as it was at first.
type host struct {
	t   testing.TB
	ns  *netns.Handle
	dir string   // scratch; short, for sockets go into it
	env []string // of every command run on the host
	out *sandbox // the machine outside, once there is one

	usedMu sync.Mutex
	used   map[string]conf // networks that were touched, for the final GC
}

// newHost returns a host with its loopback up.
func newHost(t testing.TB) *host { return newHostWith(t, func(*host) {}) }

// newHostWith is newHost for one that has more from the beginning.
func newHostWith(t testing.TB, prepare func(h *host)) *host {
	t.Helper()
	ns := netnstest.New(t)
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, ns: ns, dir: dir, used: map[string]conf{}}
	h.env = append(os.Environ(),
		"BOWLINE_RUN_DIR="+dir+"/run", "BOWLINE_LIB_DIR="+dir+"/lib", "BOWLINE_PLUGIN_DIR="+dir+"/plugins",
		"BOWLINE_E2E_HOST="+dir)
	t.Cleanup(func() { os.RemoveAll(dir) })
	h.run("ip", "link", "set", "lo", "up")
	prepare(h)
	before := h.snapshot()
	t.Cleanup(func() {
		if t.Failed() || reference() {
			return
		}
		h.collectAll()
		if d := diff(before, h.snapshot()); d != "" {
			t.Errorf("the host is not as it was before the test:\n%s", d)
		}
	})
	return h
}

// command prepares a command whose environment is the host's. Start it in do.
func (h *host) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = h.env
	return cmd
}

// do runs f on a thread inside the host's namespace: processes started in f
// are on the host, sockets opened in f are its sockets.
func (h *host) do(f func() error) error { return netns.Do(h.ns, f) }

// run runs a command on the host and returns its standard output. The test
// ends if it fails.
func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	return mustRun(h.t, h.ns, h.env, name, args...)
}

// try is run for commands that may fail; out holds both outputs.
func (h *host) try(name string, args ...string) (out string, err error) {
	return tryRun(h.ns, h.env, name, args...)
}

func mustRun(t testing.TB, ns *netns.Handle, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := netns.Do(ns, cmd.Run); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

func tryRun(ns *netns.Handle, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := netns.Do(ns, cmd.Run)
	return out.String(), err
}

// A sandbox is a container as far as networks go: a mounted namespace.
type sandbox struct {
	h    *host
	id   string
	path string // what an engine gives as CNI_NETNS
	ns   *netns.Handle
}

// sandbox makes a sandbox named id on the host, with its loopback up. It ends
// with the test.
func (h *host) sandbox(id string) *sandbox {
	h.t.Helper()
	path := filepath.Join(h.dir, "netns", id)
	ns, err := netns.NewAt(path)
	if err != nil {
		h.t.Fatal(err)
	}
	s := &sandbox{h: h, id: id, path: path, ns: ns}
	h.t.Cleanup(s.end)
	s.run("ip", "link", "set", "lo", "up")
	return s
}

// end removes the sandbox, as when its container dies. It may be called twice.
func (s *sandbox) end() {
	s.ns.Close()
	if err := netns.Remove(s.path); err != nil {
		s.h.t.Error(err)
	}
}

// run runs a command in the sandbox and returns its standard output.
func (s *sandbox) run(name string, args ...string) string {
	s.h.t.Helper()
	return mustRun(s.h.t, s.ns, s.h.env, name, args...)
}

func (s *sandbox) try(name string, args ...string) (string, error) {
	return tryRun(s.ns, s.h.env, name, args...)
}

// reaches reports whether a ping from the sandbox to addr is answered.
func (s *sandbox) reaches(addr string) bool {
	// Two tries: the first may be lost while a neighbour is being found.
	_, err := s.try("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", addr)
	return err == nil
}

// stream pings addr from the sandbox, 50 times a second, until lost is called,
// which returns how many had no answer.
func (s *sandbox) stream(addr string) (lost func() int) {
	s.h.t.Helper()
	cmd := s.h.command("ping", "-n", "-i", "0.02", "-W", "1", addr)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := netns.Do(s.ns, cmd.Start); err != nil {
		s.h.t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait() // 1 if there was no answer at all
		}
	}
	s.h.t.Cleanup(end)
	return func() int {
		s.h.t.Helper()
		end()
		_, summary, _ := strings.Cut(out.String(), "ping statistics ---\n")
		var sent, received int
		if _, err := fmt.Sscanf(summary, "%d packets transmitted, %d received", &sent, &received); err != nil || sent < 2 {
			s.h.t.Fatalf("ping %s: %v in %q", addr, err, out.String())
		}
		if !strings.Contains(out.String(), fmt.Sprintf("icmp_seq=%d ", sent)) {
			sent-- // its answer was on the way
		}
		return sent - received
	}
}

// outside adds a machine beyond the host, wired to its link up0, which carries
// 192.0.2.1/24 and 2001:db8::1/64 and the default routes. The machine has
// addresses .2 and ::2, and no route back to any container: only translated
// addresses reach it and are answered. A second call returns the same.
func (h *host) outside() *sandbox {
	h.t.Helper()
	if h.out != nil {
		return h.out
	}
	o := h.sandbox("outside")
	h.out = o
	h.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", o.path)
	for _, args := range [][]string{
		{"link", "set", "up0", "up"},
		{"addr", "add", "192.0.2.1/24", "dev", "up0"},
		{"addr", "add", "2001:db8::1/64", "dev", "up0", "nodad"},
		{"route", "add", "default", "via", "192.0.2.2"},
		{"route", "add", "default", "via", "2001:db8::2"},
	} {
		h.run("ip", args...)
	}
	for _, args := range [][]string{
		{"link", "set", "out0", "up"},
		{"addr", "add", "192.0.2.2/24", "dev", "out0"},
		{"addr", "add", "2001:db8::2/64", "dev", "out0", "nodad"},
	} {
		o.run("ip", args...)
	}
	h.t.Cleanup(func() { h.try("ip", "link", "delete", "up0") })
	return o
}

// serve answers each TCP connection to addr in the sandbox with the address of
// the caller, until the test ends.
func (s *sandbox) serve(addr string) {
	s.h.t.Helper()
	var l net.Listener
	err := netns.Do(s.ns, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		s.h.t.Fatal(err)
	}
	s.h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

// ask connects from the sandbox to what serve serves and returns the address
// that the server saw.
func (s *sandbox) ask(addr string) (seen string, err error) {
	err = netns.Do(s.ns, func() error {
		c, err := net.DialTimeout("tcp", addr, 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Second))
		var b [64]byte
		n, err := c.Read(b[:])
		seen = string(b[:n])
		return err
	})
	return seen, err
}

// mustBeSeen fails the test unless what serve serves at addr sees the asker as
// want, or as anybody if want is "".
func (s *sandbox) mustBeSeen(addr, want string) {
	s.h.t.Helper()
	seen, err := s.ask(addr)
	if seen = strings.TrimPrefix(seen, "::ffff:"); err != nil || want != "" && seen != want {
		s.h.t.Errorf("%s asks %s and is seen as %q, %v; want %s", s.id, addr, seen, err, want)
	}
}

// eventually polls until f returns nil, and fails the test with its last error
// after ten seconds.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after ten seconds: %v", err)
		}
		<-tick.C
	}
}
