package btrfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bowline-net/bowline/internal/volume/volumetest"
)

// Whoever may write to a volume can make subvolumes in it. They are no part of
// its snapshots, and go with it.
func TestNested(t *testing.T) {
	t.Parallel()
	b := Open(volumetest.Disk(t, "btrfs", ""))
	if err := b.Create(t.Context(), "v", 0); err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(b.Path("v"), "inner")
	for _, p := range []string{inner, filepath.Join(inner, "most")} {
		if err := createSubvolume(p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Snapshot(t.Context(), "v", "s"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(b.SnapshotDir("v", "s"), "inner")); err != nil || len(left) > 0 {
		t.Errorf("in the snapshot, the subvolume holds %v, %v", left, err)
	}
	if err := b.Rollback(t.Context(), "v", "s"); err != nil { // removes what was live
		t.Fatal(err)
	}
	if err := createSubvolume(filepath.Join(b.Path("v"), "another")); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "v"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(string(b.Layout)); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
