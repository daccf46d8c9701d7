package tree_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/tree"
)

// apply makes in a directory of its own what a stream says, with a base that has
// a file and a link out of it. It returns the new directory.
func apply(t testing.TB, stream []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"new", "base", "outside"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"base/file": "based", "outside/file": "not yours"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, in := range []string{"base/out", "base/dir"} {
		if err := os.Symlink(filepath.Join(dir, "outside"), filepath.Join(dir, in)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := tree.OpenDir(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	base, err := tree.OpenDir(filepath.Join(dir, "base"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	a := tree.NewApplier(root, base)
	defer a.Close()
	err = tree.Decode(t.Context(), bytes.NewReader(stream), a)
	if left, rerr := os.ReadDir(filepath.Join(dir, "outside")); rerr != nil || len(left) != 1 {
		t.Fatalf("outside there is %v, %v", left, rerr)
	}
	if b, rerr := os.ReadFile(filepath.Join(dir, "outside", "file")); rerr != nil || string(b) != "not yours" {
		t.Fatalf("outside the file holds %q, %v", b, rerr)
	}
	return filepath.Join(dir, "new"), err
}

// own is what anybody may give a file.
func own() tree.Meta {
	return tree.Meta{Mode: 0o755, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

// Streams that say what cannot be are refused.
func TestHostile(t *testing.T) {
	t.Parallel()
	for name, tell := range map[string]func(s tree.Sink) error{
		"up":              func(s tree.Sink) error { return s.File("..", own(), 1, false) },
		"dot":             func(s tree.Sink) error { return s.Enter(".", own()) },
		"a path":          func(s tree.Sink) error { return s.File("../outside/file", own(), 1, false) },
		"no name":         func(s tree.Sink) error { return s.File("", own(), 1, false) },
		"zero":            func(s tree.Sink) error { return s.Symlink("a\x00b", own(), "x") },
		"root twice":      func(s tree.Sink) error { return s.Enter("", own()) },
		"left twice":      func(s tree.Sink) error { return errors.Join(s.Leave(), s.Leave()) },
		"after the root":  func(s tree.Sink) error { return errors.Join(s.Leave(), s.File("a", own(), 1, false)) },
		"data of nothing": func(s tree.Sink) error { return s.Data(0, []byte("x")) },
		"data beyond":     func(s tree.Sink) error { return errors.Join(s.File("a", own(), 1, false), s.Data(1, []byte("x"))) },
		"data at the end": func(s tree.Sink) error { return errors.Join(s.File("a", own(), 1, false), s.Data(1<<62, []byte("x"))) },
		"hole beyond":     func(s tree.Sink) error { return errors.Join(s.File("a", own(), 5, false), s.Hole(1, 1<<62)) },
		"twice": func(s tree.Sink) error {
			return errors.Join(s.File("a", own(), 0, false), s.File("a", own(), 0, false))
		},
		"below a link": func(s tree.Sink) error { return errors.Join(s.Symlink("a", own(), "../outside"), s.Enter("a", own())) },
		"link by a link": func(s tree.Sink) error {
			return errors.Join(s.Symlink("a", own(), "../outside"), s.Link("b", "a/file"))
		},
		"link up":             func(s tree.Sink) error { return s.Link("b", "../outside/file") },
		"link to nothing":     func(s tree.Sink) error { return s.Link("b", "a/file") },
		"same by a link":      func(s tree.Sink) error { return errors.Join(s.Enter("dir", own()), s.Same("file")) },
		"same is a link":      func(s tree.Sink) error { return s.Same("out") },
		"same is nothing":     func(s tree.Sink) error { return s.Same("nothing") },
		"patch through links": func(s tree.Sink) error { return errors.Join(s.Enter("dir", own()), s.File("file", own(), 1, true)) },
		"patch of a link":     func(s tree.Sink) error { return s.File("out", own(), 1, true) },
		"a node of no kind":   func(s tree.Sink) error { return s.Node("a", own(), unix.S_IFREG, 0) },
		"no end":              func(s tree.Sink) error { return s.End() },
	} {
		var b bytes.Buffer
		s := tree.NewEncoder(&b)
		if err := errors.Join(s.Enter("", own()), tell(s)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := errors.Join(s.Leave(), s.End()); err != nil {
			t.Fatal(err)
		}
		if _, err := apply(t, b.Bytes()); !errors.Is(err, volume.ErrStream) {
			t.Errorf("%s: %v, want ErrStream", name, err)
		}
	}
	// And one that is as it must be, so that the above are refused for their own reasons.
	good := stream(t)
	dir, err := apply(t, good)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"file": "based", "a": "xy", "dir/b": "xy"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := apply(t, append(good, 0)); !errors.Is(err, volume.ErrStream) {
		t.Errorf("something after the end: %v", err)
	}
}

// stream returns one with some of everything.
func stream(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	s := tree.NewEncoder(&b)
	m := own()
	m.Sec, m.Nsec = -5, 7
	err := errors.Join(s.Enter("", m), s.File("a", m, 2, false), s.Data(0, []byte("xy")), s.Enter("dir", m), s.Link("b", "a"), s.Symlink("l", m, "/x"),
		s.Node("n", m, unix.S_IFIFO, 0), s.Leave(), s.Same("file"), s.Leave(), s.End())
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func FuzzDecode(f *testing.F) {
	f.Add(stream(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		_, _ = apply(t, b)
	})
}
