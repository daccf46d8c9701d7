package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/volume/pool"
)

// TestMain is the tool itself for tests that kill it.
func TestMain(m *testing.M) {
	if os.Getenv("BOWLINE_TEST_TOOL") == "1" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// Whenever a command is killed, what it was at is there whole or cleared by the
// next one, and removing all leaves nothing.
func TestKilled(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), "p")
	p, err := pool.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Create(t.Context(), "src", pool.Options{}); err != nil {
		t.Fatal(err)
	}
	path, _, err := p.Path(t.Context(), "src")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(path, fmt.Sprint(i)), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	killed := 0
	kill := func(after time.Duration, args ...string) {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = append(os.Environ(), "BOWLINE_TEST_TOOL=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		if cmd.Wait() != nil {
			killed++
		}
		timer.Stop()
	}
	for i := range 20 {
		after := time.Duration(i) * 2 * time.Millisecond
		kill(after, "create", "-pool", dir, "-clone", "src", "v")
		kill(after, "snapshot", "-pool", dir, "src", fmt.Sprint("s", i))
		kill(after, "rollback", "-pool", dir, "src", fmt.Sprint("s", i))
		kill(after, "rm", "-pool", dir, "v")
		if err := p.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // nothing that a kill left is in its way
			if err := p.Create(t.Context(), "v", pool.Options{Clone: "src"}); err != nil {
				t.Errorf("killed after %s: %v", after, err)
			}
		}
		paths, err := p.Names(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, path := range paths { // what is on record is whole
			if files, err := os.ReadDir(path); err != nil || len(files) != 50 {
				t.Errorf("killed after %s: %s holds %d files, %v", after, name, len(files), err)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(paths)+1 { // and the mark
			t.Errorf("killed after %s: the pool holds %v, %v; on record is %v", after, entries, err, paths)
		}
		ss, err := p.Snapshots(t.Context(), "src")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range ss {
			if strings.HasPrefix(s.Name, "_") {
				t.Errorf("killed after %s: snapshot %s was left", after, s.Name)
			}
			tree := filepath.Join(dir, "src", "snapshots", s.Name)
			if files, err := os.ReadDir(tree); err != nil || len(files) != 50 {
				t.Errorf("killed after %s: snapshot %s holds %d files, %v", after, s.Name, len(files), err)
			}
		}
	}
	if killed == 0 {
		t.Error("no command was killed")
	}
	for _, name := range []string{"v", "src"} {
		if err := p.Remove(t.Context(), name, false); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || !strings.HasPrefix(left[0].Name(), ".") {
		t.Errorf("left are %v, %v", left, err)
	}
}
