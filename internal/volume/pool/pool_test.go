package pool_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/pool"
)

// image makes a pool that ends with the test, and the directory of its records
// with it. Tests that use it have the environment to themselves.
func image(t *testing.T, name string) string {
	t.Helper()
	netnstest.RequireRoot(t)
	if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
		netnstest.Skip(t, "needs mkfs.btrfs")
	}
	dir := filepath.Join(os.Getenv("BOWLINE_LIB_DIR"), name)
	must(t, pool.Init(t.Context(), dir, 256<<20))
	t.Cleanup(func() {
		if err := pool.Undo(t.Context(), dir); err != nil && !errors.Is(err, bowline.ErrUnknown) {
			_ = exec.Command("umount", dir).Run()
		}
	})
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestPool(t *testing.T) {
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	ctx := t.Context()
	dir := image(t, "a")
	mustBe(t, "smaller", pool.Init(ctx, dir, 255<<20), bowline.ErrInvalid)
	must(t, pool.Init(ctx, dir, 300<<20)) // larger
	p, err := pool.Open(ctx, dir)
	must(t, err)
	if p.Kind() != "btrfs" {
		t.Fatalf("the pool is of kind %s", p.Kind())
	}
	o := pool.Options{Size: 20 << 20, Labels: map[string]string{"a": "b"}}
	must(t, p.Create(ctx, "v", o))
	must(t, p.Create(ctx, "v", o)) // again
	mustBe(t, "create another one", p.Create(ctx, "v", pool.Options{}), bowline.ErrConflict)
	for name, o := range map[string]pool.Options{"both": {From: "v@s", Clone: "v"}, "no snapshot": {From: "v"}, "no@t": {}, "itself": {Clone: "itself"}} {
		mustBe(t, name, p.Create(ctx, strings.ReplaceAll(name, " ", "-"), o), bowline.ErrInvalid)
	}
	mustBe(t, "of nothing", p.Create(ctx, "w", pool.Options{Clone: "nothing"}), bowline.ErrUnknown)
	if names, err := p.Names(ctx); err != nil || len(names) != 1 {
		t.Errorf("volumes are %v, %v", names, err)
	}
	path, err := p.Mount(ctx, "v", "id1")
	must(t, err)
	must(t, second(p.Mount(ctx, "v", "id1"))) // as after a kill of the engine
	must(t, os.WriteFile(filepath.Join(path, "f"), []byte("one"), 0o600))
	must(t, second(p.Snapshot(ctx, "v", "s")))
	must(t, os.WriteFile(filepath.Join(path, "f"), []byte("two"), 0o600))
	mustBe(t, "rollback while mounted", p.Rollback(ctx, "v", "s"), bowline.ErrConflict)
	mustBe(t, "remove while mounted", p.Remove(ctx, "v", false), bowline.ErrConflict)
	must(t, p.Unmount(ctx, "v", "id1"))
	must(t, p.Unmount(ctx, "v", "id1"))
	must(t, p.Create(ctx, "c", pool.Options{Clone: "v"}))
	must(t, p.Create(ctx, "f", pool.Options{From: "v@s", Size: 30 << 20}))
	must(t, p.Rollback(ctx, "v", "s"))
	must(t, p.Resize(ctx, "v", 40<<20))
	for name, want := range map[string]string{"v": "one", "c": "two", "f": "one"} {
		i, err := p.Inspect(ctx, name, true)
		must(t, err)
		if b, err := os.ReadFile(filepath.Join(i.Path, "f")); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
		}
		if size := map[string]uint64{"v": 40 << 20, "f": 30 << 20}[name]; i.Size != size || len(i.Snapshots) != map[string]int{"v": 1}[name] {
			t.Errorf("inspect says %+v", i)
		}
	}
	// What has it mounted is found, whatever the records say.
	at := t.TempDir()
	must(t, exec.Command("mount", "--bind", path, at).Run())
	err = p.Remove(ctx, "v", true)
	must(t, exec.Command("umount", at).Run())
	mustBe(t, "remove while there is a mount", err, bowline.ErrConflict)
	mustBe(t, "end while there are volumes", pool.Undo(ctx, dir), bowline.ErrConflict)

	// As after a reboot: it is mounted again.
	must(t, exec.Command("umount", dir).Run())
	p, err = pool.Open(ctx, dir)
	must(t, err)
	if b, err := os.ReadFile(filepath.Join(path, "f")); err != nil || string(b) != "one" {
		t.Errorf("mounted again, v holds %q, %v", b, err)
	}

	between(t, p)
	for _, name := range []string{"v", "c", "f", "nothing"} {
		must(t, p.Remove(ctx, name, false))
	}
	must(t, pool.Undo(ctx, dir))
	if left, err := os.ReadDir(os.Getenv("BOWLINE_LIB_DIR")); err != nil || len(left) != 1 { // the records' locks
		t.Errorf("left are %v, %v", left, err)
	}
}

func second[T any](_ T, err error) error { return err }

// between sends v to another pool, whole and then what is new.
func between(t *testing.T, p *pool.Pool) {
	t.Helper()
	ctx := t.Context()
	q, err := pool.Open(ctx, image(t, "b"))
	must(t, err)
	var b bytes.Buffer
	must(t, p.Send(ctx, "v", "s", "", &b))
	whole := slices.Clone(b.Bytes())
	must(t, second(q.Receive(ctx, "", &b)))
	path, _, err := p.Path(ctx, "v")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(path, "g"), []byte("new"), 0o600))
	must(t, second(p.Snapshot(ctx, "v", "t")))
	must(t, p.Send(ctx, "v", "t", "s", &b))
	must(t, second(q.Receive(ctx, "", bytes.NewReader(b.Bytes()))))
	mustBe(t, "twice", second(q.Receive(ctx, "", bytes.NewReader(b.Bytes()))), bowline.ErrConflict)
	mustBe(t, "without a base", second(q.Receive(ctx, "other", bytes.NewReader(b.Bytes()))), bowline.ErrUnknown)
	mustBe(t, "cut short", second(q.Receive(ctx, "other", bytes.NewReader(whole[:len(whole)-9]))), volume.ErrStream)
	mustBe(t, "a base that is newer", p.Send(ctx, "v", "s", "t", &b), bowline.ErrInvalid)
	must(t, q.Rollback(ctx, "v", "t"))
	path, _, err = q.Path(ctx, "v")
	must(t, err)
	if got, err := os.ReadFile(filepath.Join(path, "g")); err != nil || string(got) != "new" {
		t.Errorf("received %q, %v", got, err)
	}
	if names, err := q.Names(ctx); err != nil || len(names) != 1 {
		t.Errorf("volumes there are %v, %v", names, err)
	}
	must(t, q.Remove(ctx, "v", false))
	must(t, pool.Undo(ctx, q.Dir))
}

// What is not empty and bears no mark is nobody's pool.
func TestForeign(t *testing.T) {
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600))
	mustBe(t, "open", second(pool.Open(t.Context(), dir)), bowline.ErrConflict)
	mustBe(t, "init", pool.Init(t.Context(), dir, 1<<30), bowline.ErrConflict)
	mustBe(t, "undo", pool.Undo(t.Context(), dir), bowline.ErrUnknown)
	mustBe(t, "open by half a path", second(pool.Open(t.Context(), "pool")), bowline.ErrInvalid)
	other := filepath.Join(t.TempDir(), "p")
	must(t, os.WriteFile(other+".img", []byte("mine"), 0o600))
	mustBe(t, "init beside a file", pool.Init(t.Context(), other, 1<<30), bowline.ErrConflict)
	if b, err := os.ReadFile(other + ".img"); err != nil || string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

// A kill at any step of create and remove leaves what the next call clears.
func TestCutShort(t *testing.T) {
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), "p")
	p, err := pool.Open(t.Context(), dir)
	must(t, err)
	for _, verb := range []struct {
		name string
		f    func(n int) error
	}{
		{"create", func(n int) error { return p.Create(netnstest.FailAfter(t.Context(), n), "v", pool.Options{}) }},
		{"remove", func(n int) error { return p.Remove(netnstest.FailAfter(t.Context(), n), "v", false) }},
	} {
		n := 0
		for verb.f(n) != nil {
			if n++; n > 100 {
				t.Fatalf("%s never succeeds", verb.name)
			}
			if verb.name == "create" {
				if left, err := os.ReadDir(dir); err != nil || len(left) != 1 { // the mark
					t.Errorf("create, failed at step %d, leaves %v, %v", n-1, left, err)
				}
			}
			must(t, p.Settle(t.Context()))
		}
		if n == 0 {
			t.Errorf("%s has no step that can fail", verb.name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}
