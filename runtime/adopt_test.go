package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
)

// A namespace of somebody else's is attached and detached, and stays.
func TestAdopt(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(t.TempDir(), "theirs")
	theirs, err := netns.NewAt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	defer netns.Remove(path)
	h.network("web", "br0", "10.9.0.0/24")
	adopt := func(name, path string) error {
		return h.try(func(ctx context.Context) error {
			_, err := h.r.AdoptSandbox(ctx, name, path)
			return err
		})
	}
	if err := adopt("one", path); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		wraps      error
		want       string
	}{
		{"one", path, bowline.ErrConflict, `is sandbox "one" already`},
		{"two", path, bowline.ErrConflict, `is sandbox "one" already`},
		{"two", "/proc/thread-self/ns/net", bowline.ErrInvalid, "is the host's own"},
		{"two", file, bowline.ErrInvalid, "want a network namespace"},
		{"two", file + "-not", bowline.ErrInvalid, "no such file"},
		{"a/b", path, bowline.ErrInvalid, "want 1 to 64 letters"},
	} {
		if err := adopt(tt.name, tt.path); !errors.Is(err, tt.wraps) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("adopt %s as %s: %v, want %v with %q", tt.path, tt.name, err, tt.wraps, tt.want)
		}
	}
	if a := h.connect(ConnectSpec{Sandbox: "one", Network: "web"}); len(a.Addrs) == 0 {
		t.Error("no address")
	}
	h.do(func(ctx context.Context) error { return h.r.RemoveSandbox(ctx, "one", false) })
	if id, ok := netns.Stat(path); !ok {
		t.Error("the namespace is gone with its sandbox")
	} else if want, err := theirs.ID(); err != nil || id != want {
		t.Errorf("namespace %v, %v, want %v", id, err, want)
	}

	// One that ends is cleared, and what is then in its place is left alone.
	if err := adopt("one", path); err != nil {
		t.Fatal(err)
	}
	h.connect(ConnectSpec{Sandbox: "one", Network: "web"})
	if err := netns.Remove(path); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	next, err := netns.NewAt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	h.do(func(ctx context.Context) error { _, err := h.r.GC(ctx, false); return err })
	all, err := h.r.Sandboxes(t.Context())
	if err != nil || len(all) != 0 {
		t.Errorf("after GC there are %v, %v", all, err)
	}
	if _, ok := netns.Stat(path); !ok {
		t.Error("GC removed what is not its own")
	}
}
