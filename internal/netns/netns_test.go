package netns_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	before, _ := netns.Stat("/proc/self/ns/net")
	var got netns.ID
	if err := netns.Do(h, func() error {
		got, _ = netns.Stat("/proc/thread-self/ns/net")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("Do ran in %v, want %v", got, want)
	}
	if after, _ := netns.Stat("/proc/self/ns/net"); after != before || after == want {
		t.Errorf("caller is in %v afterwards, was in %v", after, before)
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
