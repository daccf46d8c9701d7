package netns_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func TestDoRunsInside(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	want, err := h.ID()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // to look at the thread that Do took along
	defer runtime.UnlockOSThread()
	here := func() netns.ID {
		id, ok := netns.Stat("/proc/thread-self/ns/net")
		if !ok {
			t.Fatal("the thread has no namespace")
		}
		return id
	}
	before := here()
	var got, nested, back netns.ID
	inside := errors.New("from inside")
	err = netns.Do(h, func() error {
		got = here()
		if err := netns.Do(netnstest.New(t), func() error { nested = here(); return nil }); err != nil {
			return err
		}
		back = here()
		return inside
	})
	if err != inside {
		t.Errorf("Do returned %v, want what f did", err)
	}
	if got != want || back != want {
		t.Errorf("f ran in %v, then in %v, want %v", got, back, want)
	}
	if after := here(); after != before || after == want || nested == want || nested == before {
		t.Errorf("the thread was in %v, then in %v; nested in %v", before, after, nested)
	}
	func() {
		defer func() { _ = recover() }()
		_ = netns.Do(h, func() error { panic("inside") })
	}()
	if after := here(); after != before {
		t.Errorf("after a panic the thread is in %v, want %v", after, before)
	}
}

func TestNewAtAndRemove(t *testing.T) {
	t.Parallel()
	netnstest.RequireRoot(t)
	path := filepath.Join(t.TempDir(), "d", "ns")
	h, err := netns.NewAt(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := h.ID()
	h.Close()
	if got, ok := netns.Stat(path); !ok || got != want {
		t.Errorf("Stat = %v, %v; want %v", got, ok, want)
	}
	if _, err := netns.NewAt(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second NewAt: %v, want file exists", err)
	}
	for range 2 { // twice: removing nothing is success
		if err := netns.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := netns.Stat(path); ok {
		t.Error("still there after Remove")
	}
}

// A pinned namespace outlives whoever had it.
func TestPin(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	path := filepath.Join(t.TempDir(), "d", "pin")
	if err := h.Pin(path); err != nil {
		t.Fatal(err)
	}
	want, _ := h.ID()
	if err := h.Pin(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Pin: %v, want file exists", err)
	}
	if got, ok := netns.Stat(path); !ok || got != want {
		t.Errorf("Stat = %v, %v; want %v", got, ok, want)
	}
	if err := netns.Remove(path); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil { // a kill before the mount
		t.Fatal(err)
	}
	if err := netns.Remove(path); err != nil {
		t.Errorf("Remove of a place without a mount: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the place is still there: %v", err)
	}
}

func TestOpenRefusesOrdinaryFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Open(path); !errors.Is(err, netns.ErrNotNamespace) {
		t.Errorf("Open of an ordinary file: %v, want ErrNotNamespace", err)
	}
	if _, ok := netns.Stat(path); ok {
		t.Error("Stat took an ordinary file for a namespace")
	}
	if _, err := netns.Open(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing: %v, want not exist", err)
	}
}
