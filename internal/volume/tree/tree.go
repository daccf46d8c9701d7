// Package tree copies directory trees so that nothing is lost: owners, modes,
// times, extended attributes with ACLs and capabilities, hard links, symbolic
// links, holes, devices and names of any bytes.
//
// One [Walk] tells a tree to a [Sink], in order, entry by entry. An [Applier]
// is a sink that makes the tree elsewhere; an [Encoder] is one that writes it to
// a stream, which [Decode] tells to an applier again. So local copies, full
// sends and increments are one code. Names are single parts of paths and every
// directory is an open descriptor, so that nothing outside of the tree can be
// reached, whatever names and links a stream holds.
package tree

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
)

// A Meta is what an inode has beside what is in it.
type Meta struct {
	Mode     uint32 // permissions with set-user-ID and so on; the type is not in it
	UID, GID uint32
	Sec      int64 // of the last change of what is in it
	Nsec     uint32
	Xattrs   []Xattr
}

// An Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// A Sink is told a tree: the root by Enter with an empty name, then what is in a
// directory between its Enter and its Leave, in byte order of names.
type Sink interface {
	Enter(name string, m Meta) error
	Leave() error
	// File begins a file of that size. Its data follows by Data; what is not
	// told is a hole or, with patch, as it is in the base at the same place,
	// where Hole makes holes.
	File(name string, m Meta, size int64, patch bool) error
	Data(off int64, b []byte) error
	Hole(off, n int64) error
	Symlink(name string, m Meta, target string) error
	// Node is a device, a fifo or a socket, by the type bits of its mode.
	Node(name string, m Meta, kind uint32, rdev uint64) error
	// Link is one more name of what has that path already.
	Link(name, path string) error
	// Same is what has that name in the base at the same place.
	Same(name string) error
	// End comes last, after the root was left.
	End() error
}

// reserved is the attribute that an [Applier] leaves on files, see [Origin]. It
// is never part of a tree.
const reserved = "trusted.bowline.origin"

// checkName returns an error unless name can be that of an entry.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: an entry is called %.80q", volume.ErrStream, name)
	}
	return nil
}

// open opens an entry of dir without following links, and without waiting for
// anybody at the other end of a fifo.
func open(dir int, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != unix.EINTR {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// OpenDir opens a directory to walk, or to make a tree in.
func OpenDir(path string) (*os.File, error) {
	return open(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY)
}

// at returns a path by which calls that have no variant for directories reach an
// entry; those must not follow links.
func at(dir int, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", dir, name) }

// readXattrs returns those of the path, sorted, without the reserved one.
func readXattrs(path string) ([]Xattr, error) {
	names, err := sized(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	var xs []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if name == "" || name == reserved {
			continue
		}
		value, err := sized(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if err == unix.ENODATA { // gone meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		xs = append(xs, Xattr{name, value})
	}
	slices.SortFunc(xs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return xs, nil
}

// sized calls f with a buffer that is large enough.
func sized(f func([]byte) (int, error)) ([]byte, error) {
	b := make([]byte, 256)
	for {
		n, err := f(b)
		if err == nil {
			return b[:n], nil
		}
		if err != unix.ERANGE {
			return nil, err
		}
		if n, err = f(nil); err != nil {
			return nil, err
		}
		b = make([]byte, n+64)
	}
}

// meta puts together what there is to know of an entry.
func meta(s *unix.Stat_t, path string) (Meta, error) {
	xs, err := readXattrs(path)
	return Meta{Mode: s.Mode &^ unix.S_IFMT, UID: s.Uid, GID: s.Gid, Sec: s.Mtim.Sec, Nsec: uint32(s.Mtim.Nsec), Xattrs: xs}, err
}

// apply gives an entry of dir what m says; name "" is dir itself. Changing the
// owner takes set-user-ID and capabilities away, so it comes first.
func (m Meta) apply(dir int, name string, kind uint32) error {
	path := at(dir, name)
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		path, flags = at(dir, "."), unix.AT_EMPTY_PATH
	}
	if err := unix.Fchownat(dir, name, int(m.UID), int(m.GID), flags); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if kind != unix.S_IFLNK {
		if err := plain(path, kind); err != nil {
			return err
		}
		if err := unix.Fchmodat(unix.AT_FDCWD, path, m.Mode, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	for _, x := range m.Xattrs {
		if x.Name == reserved {
			continue
		}
		if err := unix.Lsetxattr(path, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", x.Name, err)
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: m.Sec, Nsec: int64(m.Nsec)}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// plain takes ACLs away: had the directory a default one in which the tree is
// made, what is made there would have inherited it.
func plain(path string, kind uint32) error {
	names := []string{"system.posix_acl_access", "system.posix_acl_default"}
	if kind != unix.S_IFDIR {
		names = names[:1]
	}
	for _, name := range names {
		if err := unix.Lremovexattr(path, name); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return fmt.Errorf("remove attribute %s: %w", name, err)
		}
	}
	return nil
}
