package dir_test

import (
	"testing"

	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/dir"
	"github.com/bowline-net/bowline/internal/volume/fsys"
	"github.com/bowline-net/bowline/internal/volume/volumetest"
)

func TestDir(t *testing.T) {
	t.Parallel()
	volumetest.Suite{
		Kind: fsys.Dir,
		Disk: func(t testing.TB) string { return volumetest.Disk(t, "ext4", "") },
		Open: func(root string) volume.Backend { return dir.Open(root, false) },
	}.Run(t)
}

func TestReflink(t *testing.T) {
	t.Parallel()
	volumetest.Suite{
		Kind: fsys.Reflink,
		Disk: func(t testing.TB) string { return volumetest.Disk(t, "xfs", "") },
		Open: func(root string) volume.Backend { return dir.Open(root, true) },
	}.Run(t)
}
