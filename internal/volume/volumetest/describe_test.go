package volumetest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// The judge must see each thing that a copy could lose.
func TestJudge(t *testing.T) {
	t.Parallel()
	netnstest.RequireRoot(t)
	root := Disk(t, "ext4", "")
	Fill(t, root)
	at := func(name string) string { return filepath.Join(root, name) }
	time := func(name string, sec, nsec int64) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Sec: sec, Nsec: nsec}}, unix.AT_SYMLINK_NOFOLLOW)
	}
	node := func(name string, mode uint32, dev uint64) error {
		return errors.Join(os.Remove(at(name)), unix.Mknod(at(name), mode, int(dev)))
	}
	before := Describe(t, root)
	for _, tt := range []struct {
		what   string
		change func() error
	}{
		{"nanoseconds", func() error { return time("etc/plain", 1<<33, 999_999_998) }},
		{"time of a link", func() error { return time("symlink", 1_000_000_000, 1) }},
		{"time of a directory", func() error { return time("etc", 1_000_000_000, 3) }},
		{"mode", func() error { return os.Chmod(at("etc/suid"), 0o755) }},
		{"group", func() error { return os.Lchown(at("etc/owned"), 1234, 70001) }},
		{"owner of a link", func() error { return os.Lchown(at("dangling"), 8, 8) }},
		{"attribute", func() error { return unix.Lremovexattr(at("etc/attributes"), "user.empty") }},
		{"trusted attribute", func() error { return unix.Lsetxattr(at("opaque"), "trusted.overlay.opaque", []byte("z"), 0) }},
		{"ACL", func() error { return unix.Lremovexattr(at("etc/acl"), "system.posix_acl_access") }},
		{"default ACL", func() error { return unix.Lremovexattr(at("inherits"), "system.posix_acl_default") }},
		{"capability", func() error { return unix.Lremovexattr(at("etc/capable"), "security.capability") }},
		{"one byte", func() error { return poke(at("random"), 1<<20-1) }},
		{"one byte after a hole", func() error { return poke(at("sparse"), 1<<32+6) }},
		{"size", func() error { return os.Truncate(at("sparse"), 5<<30+1) }},
		{"target", func() error { return errors.Join(os.Remove(at("symlink")), os.Symlink("etc/plaim", at("symlink"))) }},
		{"device", func() error { return node("null", unix.S_IFCHR|0o666, unix.Mkdev(1, 5)) }},
		{"kind of device", func() error { return node("whiteout", unix.S_IFBLK, 0) }},
		{"hard link", func() error {
			b, err := os.ReadFile(at("links"))
			return errors.Join(err, os.Remove(at("etc/links too")), os.WriteFile(at("etc/links too"), b, 0o644))
		}},
		{"name", func() error { return os.Rename(at("bytes \xff\xfe\n\\\t'\""), at("bytes \xff\xff\n\\\t'\"")) }},
		{"size again", func() error { return os.Truncate(at("sparse"), 10<<20) }}, // or the next would not fit
		{"number of holes", func() error {
			// with the time that it has, for the judge is not to see that
			info, err := os.Stat(at("sparse"))
			return errors.Join(err, allocate(at("sparse"), 10<<20), os.Chtimes(at("sparse"), info.ModTime(), info.ModTime()))
		}},
	} {
		if err := tt.change(); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		after := Describe(t, root)
		if difference(before, after) == "" {
			t.Errorf("the judge does not see another %s", tt.what)
		}
		before = after
	}
}

// allocate has no holes in the first n bytes of a file.
func allocate(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fallocate(int(f.Fd()), 0, 0, n)
}

// poke changes one byte, and leaves the time.
func poke(path string, off int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, off)
	return errors.Join(err, os.Chtimes(path, info.ModTime(), info.ModTime()))
}
