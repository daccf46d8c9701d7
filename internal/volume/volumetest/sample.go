package volumetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Fill makes a tree at root that has one of everything.
func Fill(t testing.TB, root string) {
	t.Helper()
	m := maker{t, root}
	m.dir("etc", 0o750)
	m.file("etc/plain", []byte("hello\n"), 0o644)
	m.file("etc/empty", nil, 0o600)
	m.file("etc/suid", []byte("x"), 0o4755)
	m.file("etc/owned", []byte("x"), 0o640)
	m.must(os.Lchown(m.at("etc/owned"), 1234, 70000))
	m.file("etc/attributes", []byte("x"), 0o644)
	m.must(unix.Lsetxattr(m.at("etc/attributes"), "user.note", []byte("a\x00b"), 0))
	m.must(unix.Lsetxattr(m.at("etc/attributes"), "user.empty", nil, 0))
	m.must(unix.Lsetxattr(m.at("etc/attributes"), "trusted.overlay.origin", []byte("x"), 0))
	m.file("etc/capable", []byte("x"), 0o755)
	m.must(os.Lchown(m.at("etc/capable"), 5, 6)) // takes capabilities away, so a copy must set it first
	m.must(unix.Lsetxattr(m.at("etc/capable"), "security.capability", capability(), 0))
	m.file("etc/acl", []byte("x"), 0o640)
	m.must(unix.Lsetxattr(m.at("etc/acl"), "system.posix_acl_access", acl(), 0))
	m.dir("inherits", 0o755)
	m.file("inherits/before", []byte("no ACL"), 0o644) // and must not get one
	m.dir("inherits/below", 0o755)
	m.must(unix.Lsetxattr(m.at("inherits"), "system.posix_acl_default", acl(), 0))
	m.file("links", []byte("three names"), 0o644)
	m.must(os.Link(m.at("links"), m.at("etc/links too")))
	m.must(os.Link(m.at("links"), m.at("inherits/below/links")))
	m.must(os.Symlink("etc/plain", m.at("symlink")))
	m.must(os.Symlink("/nowhere/at all", m.at("dangling")))
	m.must(os.Lchown(m.at("dangling"), 7, 8))
	m.must(os.Link(m.at("dangling"), m.at("dangling too")))
	m.must(unix.Mknod(m.at("fifo"), unix.S_IFIFO|0o620, 0))
	m.must(unix.Mknod(m.at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	m.must(unix.Mknod(m.at("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))))
	m.must(unix.Mknod(m.at("whiteout"), unix.S_IFCHR, 0))
	m.file("bytes \xff\xfe\n\\\t'\"", []byte("x"), 0o644)
	m.file(strings.Repeat("n", 255), []byte("x"), 0o644)
	m.dir("opaque", 0o700)
	m.must(unix.Lsetxattr(m.at("opaque"), "trusted.overlay.opaque", []byte("y"), 0))
	deep := strings.Repeat("d/", 150)
	m.must(os.MkdirAll(m.at(deep), 0o755))
	m.file(deep+"bottom", []byte("x"), 0o644)
	m.sparse("sparse", 5<<30) // beyond 2^32
	m.file("random", Random(1, 1<<20), 0o644)
	m.file("text", bytes.Repeat([]byte("all work and no play\n"), 100_000), 0o644)
	for i := range 200 {
		m.file(fmt.Sprintf("inherits/below/%03d", i), Random(uint64(i), i*10), 0o644)
	}
	m.times("etc/plain", 1<<33, 999_999_999)
	m.times("etc/empty", -1, 1)
	m.times("symlink", 1_000_000_000, 123_456_789)
	m.times("fifo", 1_000_000_000, 1)
	m.times("etc", 1_000_000_000, 2)
	m.must(os.Chmod(root, 0o1777))
	m.must(unix.Lsetxattr(root, "system.posix_acl_default", acl(), 0)) // what is made anywhere may pass through here
	m.times("", 1_000_000_000, 3)
}

// Change makes of a filled tree one that differs in every way there is.
func Change(t testing.TB, root string) {
	t.Helper()
	m := maker{t, root}
	m.must(os.Chmod(m.at("etc/plain"), 0o400)) // its time stays
	m.must(os.Lchown(m.at("etc/empty"), 1, 1))
	m.must(unix.Lremovexattr(m.at("etc/attributes"), "user.note"))
	m.must(unix.Lsetxattr(m.at("etc/attributes"), "user.new", []byte("n"), 0))
	m.must(unix.Lremovexattr(m.at("etc/acl"), "system.posix_acl_access"))
	m.must(os.Remove(m.at("links"))) // the other names stay
	m.must(os.Link(m.at("etc/suid"), m.at("suid too")))
	m.must(os.Remove(m.at("symlink")))
	m.must(os.Mkdir(m.at("symlink"), 0o711)) // another kind
	m.must(os.Remove(m.at("fifo")))
	m.file("fifo", []byte("a file now"), 0o644)
	m.must(os.Rename(m.at("inherits/below"), m.at("moved")))
	m.must(os.Rename(m.at("moved/100"), m.at("moved/101"))) // over another
	m.must(os.Remove(m.at("moved/102")))
	m.file("moved/new", []byte("n"), 0o644)
	m.must(os.RemoveAll(m.at("d/d/d/d")))
	f, err := os.OpenFile(m.at("random"), os.O_RDWR, 0)
	m.must(err)
	defer f.Close()
	info, err := f.Stat()
	m.must(err)
	_, err = f.WriteAt([]byte("in the middle"), 500_000)
	m.must(err)
	m.must(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100_000, 200_000))
	// With the time that it had: whoever looks at times only misses it.
	m.must(os.Chtimes(m.at("random"), info.ModTime(), info.ModTime()))
	m.must(os.Truncate(m.at("text"), 777))
	m.must(os.Truncate(m.at("sparse"), 6<<30))
	m.file("moved/050", []byte("longer than it was, and other"), 0o644)
}

// Random returns n bytes that do not compress, the same for the same seed.
func Random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

type maker struct {
	t    testing.TB
	root string
}

func (m maker) at(name string) string { return filepath.Join(m.root, name) }

func (m maker) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m maker) dir(name string, mode os.FileMode) {
	m.t.Helper()
	m.must(os.Mkdir(m.at(name), 0o700))
	m.must(os.Chmod(m.at(name), mode))
}

func (m maker) file(name string, b []byte, mode uint32) {
	m.t.Helper()
	m.must(os.WriteFile(m.at(name), b, 0o600))
	m.must(unix.Chmod(m.at(name), mode))
}

func (m maker) sparse(name string, size int64) {
	m.t.Helper()
	f, err := os.Create(m.at(name))
	m.must(err)
	defer f.Close()
	m.must(f.Truncate(size))
	for _, off := range []int64{0, 1 << 20, 1<<32 + 5, size - 3} {
		_, err := f.WriteAt([]byte("abc"), off)
		m.must(err)
	}
}

func (m maker) times(name string, sec, nsec int64) {
	m.t.Helper()
	ts := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Sec: sec, Nsec: nsec}}
	m.must(unix.UtimesNanoAt(unix.AT_FDCWD, m.at(name), ts, unix.AT_SYMLINK_NOFOLLOW))
}

// capability is CAP_NET_BIND_SERVICE, effective and permitted (vfs_cap_data).
func capability() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	b = binary.LittleEndian.AppendUint32(b, 1<<10)
	return append(b, make([]byte, 12)...)
}

// acl is u::rw-,u:99:r--,g::r--,m::r--,o::---, as the kernel keeps it.
func acl() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 4, 99}, {4, 4, ^uint32(0)}, {16, 4, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}
