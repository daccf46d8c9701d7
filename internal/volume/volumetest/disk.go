// Package volumetest is what every volume back-end must do, said once, and what
// its tests stand on: disks that are files, a tree with one of everything, and a
// judge that tells whether two trees are equal.
package volumetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// Disk mounts a new file system of that type, ext4, xfs or btrfs, that ends with
// the test, and returns where. options are those of mount.
func Disk(t testing.TB, kind, options string) string {
	t.Helper()
	netnstest.RequireRoot(t)
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil {
		if mkfs = "/usr/sbin/mkfs." + kind; unix.Access(mkfs, unix.X_OK) != nil {
			netnstest.Skip(t, "needs mkfs."+kind)
		}
	}
	if known, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(known), "\t"+kind+"\n") {
		netnstest.Skip(t, "the kernel has no "+kind)
	}
	// Not t.TempDir: removing that would go through a mount that stayed.
	dir, err := os.MkdirTemp("", "disk")
	if err != nil {
		t.Fatal(err)
	}
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	t.Cleanup(func() { os.Remove(image); os.Remove(at); os.Remove(dir) })
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, mkfs, "-q", image)
	run(t, "mount", "-o", strings.Trim("loop,"+options, ","), image, at)
	t.Cleanup(func() { run(t, "umount", at) })
	return at
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
