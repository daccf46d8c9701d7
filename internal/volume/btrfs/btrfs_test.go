package btrfs_test

import (
	"testing"

	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/btrfs"
	"github.com/bowline-net/bowline/internal/volume/fsys"
	"github.com/bowline-net/bowline/internal/volume/volumetest"
)

func TestBtrfs(t *testing.T) {
	t.Parallel()
	volumetest.Suite{
		Kind: fsys.Btrfs, Sizes: true, Atomic: true,
		Disk: func(t testing.TB) string { return volumetest.Disk(t, "btrfs", "") },
		Open: func(root string) volume.Backend { return btrfs.Open(root) },
		Seal: btrfs.Seal,
	}.Run(t)
}
