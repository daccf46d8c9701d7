package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

// A stage is a host on which nobody but the demo is at work: with mounts and
// binaries of its own, for the demo compares those of the whole machine.
type stage struct {
	*host
	bin    string
	holder *exec.Cmd // keeps the mount namespace
}

func newStage(t *testing.T) *stage {
	s := &stage{host: newHost(t)}
	s.bin = filepath.Join(s.dir, "bin")
	s.run("mkdir", s.bin)
	for _, name := range []string{"bowline", "bowline-bridge", "bowline-macvlan", "bowline-ipam"} {
		s.run("cp", bin(name), s.bin)
	}
	// Namespaces of other tests are mounted, too. They would go with their files.
	s.holder = exec.Command("sh", "-c", "awk '$3 == \"nsfs\" { print $2 }' /proc/mounts | xargs -r umount -l; echo ready; exec cat")
	s.holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	end, err := s.holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end.Close()
		s.holder.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the holder of the mounts says %q, %v", line, err)
	}
	return s
}

// demo prepares a run of the demo on the stage.
func (s *stage) demo(args ...string) *exec.Cmd {
	argv := append([]string{"-m", "-t", strconv.Itoa(s.holder.Process.Pid), "--", filepath.Join(s.bin, "bowline"), "demo"}, args...)
	return s.command("nsenter", argv...)
}

// begin starts a demo that is in the middle of its work when begin returns. The
// rest of what it prints comes from out.
func (s *stage) begin() (cmd *exec.Cmd, out io.Reader) {
	s.t.Helper()
	cmd = s.demo()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stderr = new(bytes.Buffer)
	if err := netns.Do(s.ns, cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(pipe)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			s.t.Fatalf("the demo ended before its time: %v", err)
		}
		if strings.HasPrefix(line, "  sandbox blue-1") {
			return cmd, r
		}
	}
}

// TestDemo: the demo finds all as it should be, and so does the snapshot of
// newHost, which is another's.
func TestDemo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.demo("--json")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := netns.Do(s.ns, cmd.Run); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errOut.String())
	}
	var report struct {
		Reach       []struct{ Reached, Expected bool }
		Differences []any
		Attach      struct{ Count int }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	reached := 0
	for _, r := range report.Reach {
		if r.Reached != r.Expected {
			t.Errorf("reached %v, want %v: %s", r.Reached, r.Expected, out.String())
		}
		if r.Reached {
			reached++
		}
	}
	// Six sandboxes and the host ask six servers by two families each. Those of a
	// bridge reach its two and the LAN's two, those of the LAN its two, the host all.
	if len(report.Reach) != 84 || reached != 4*8+2*4+12 || len(report.Differences) != 0 || report.Attach.Count == 0 {
		t.Errorf("report is %s", out.String())
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd, out := s.begin()
	cmd.Process.Signal(os.Interrupt)
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	said := string(rest) + cmd.Stderr.(*bytes.Buffer).String()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(said, "Nothing differs.") || !strings.Contains(said, "interrupted") {
		t.Errorf("exit code %d\n%s", code, said)
	}
}

// TestDemoKilled: the next demo clears what a killed one left, down to the
// switches that it turned on.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	const key = "net.ipv4.ip_forward"
	before := s.run("sysctl", key)
	cmd, _ := s.begin()
	cmd.Process.Kill()
	cmd.Wait()
	if left := s.records(); len(left) == 0 {
		t.Error("a demo that is killed leaves records; nothing was tested")
	}
	next := s.demo()
	var out bytes.Buffer
	next.Stdout, next.Stderr = &out, &out
	if err := netns.Do(s.ns, next.Run); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "Nothing differs.") {
		t.Errorf("the next demo says:\n%s", out.String())
	}
	if after := s.run("sysctl", key); after != before {
		t.Errorf("%s was %s and is %s", key, before, after)
	}
}
