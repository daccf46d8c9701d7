package pool

import (
	"path/filepath"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/volume"
)

// A clone that was cut short leaves a snapshot in what it is made of.
func TestClear(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	ctx := t.Context()
	p, err := Open(ctx, filepath.Join(t.TempDir(), "p"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Create(ctx, "src", Options{}); err != nil {
		t.Fatal(err)
	}
	if err := p.write(ctx, record{Volume: volume.Volume{Name: "v"}, Options: Options{Clone: "src"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.backend.Snapshot(ctx, "src", passing("v")); err != nil {
		t.Fatal(err)
	}
	if err := p.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	if ss, err := p.Snapshots(ctx, "src"); err != nil || len(ss) > 0 {
		t.Errorf("left are the snapshots %v, %v", ss, err)
	}
	if names, err := p.Names(ctx); err != nil || len(names) != 1 {
		t.Errorf("volumes are %v, %v", names, err)
	}
	if err := p.Create(ctx, "v", Options{Clone: "src"}); err != nil {
		t.Error(err)
	}
}
