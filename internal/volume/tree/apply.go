package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
)

// An Applier is a sink that makes a tree in an empty directory. Close it in any
// case; the tree is whole if End returned nil.
type Applier struct {
	// Reflink: files that are copied share their blocks with where they came from.
	Reflink bool
	// Origin is called for each file that is copied, and returns what to
	// remember of where it came from; nil: nothing.
	Origin func(from *unix.Stat_t) []byte

	root, base *os.File
	dirs       []level
	file       *os.File // the one begun last, not yet ended
	fileName   string
	fileMeta   Meta
	fileSize   int64
	origin     []byte
	done       bool
}

// A level is a directory that was entered and not yet left.
type level struct {
	dir, base *os.File // base: nil if there is none at this place
	meta      Meta
}

// NewApplier makes the tree in root. base is what Same and patches refer to; nil:
// nothing. Both stay the caller's.
func NewApplier(root, base *os.File) *Applier { return &Applier{root: root, base: base} }

// Close lets go of what is open.
func (a *Applier) Close() {
	if a.file != nil {
		a.file.Close()
	}
	for i, l := range a.dirs {
		if i > 0 {
			l.close()
		}
	}
	a.file, a.dirs, a.done = nil, nil, true
}

func (l level) close() {
	l.dir.Close()
	if l.base != nil {
		l.base.Close()
	}
}

// here ends the last file and returns the directory that is being filled.
func (a *Applier) here(name string) (level, error) {
	if len(a.dirs) == 0 || a.done {
		return level{}, fmt.Errorf("%w: an entry outside of the root", volume.ErrStream)
	}
	if err := checkName(name); err != nil {
		return level{}, err
	}
	return a.dirs[len(a.dirs)-1], a.endFile()
}

// wrap says where something went wrong.
func wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("%w: it comes twice", volume.ErrStream)
	}
	return fmt.Errorf("%.80q: %w", name, err)
}

// Enter implements [Sink].
func (a *Applier) Enter(name string, m Meta) error {
	if name == "" && len(a.dirs) == 0 && !a.done {
		a.dirs = append(a.dirs, level{a.root, a.base, m})
		return nil
	}
	l, err := a.here(name)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(int(l.dir.Fd()), name, 0o700); err != nil {
		return wrap(name, err)
	}
	next := level{meta: m}
	if next.dir, err = open(int(l.dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return wrap(name, err)
	}
	if l.base != nil {
		next.base, _ = open(int(l.base.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY) // or there is none
	}
	a.dirs = append(a.dirs, next)
	return nil
}

// Leave implements [Sink]. What a directory is given comes now: entries would
// change its time and inherit its default ACL.
func (a *Applier) Leave() error {
	if len(a.dirs) == 0 {
		return fmt.Errorf("%w: it leaves the root twice", volume.ErrStream)
	}
	if err := a.endFile(); err != nil {
		return err
	}
	l := a.dirs[len(a.dirs)-1]
	if err := l.meta.apply(int(l.dir.Fd()), "", unix.S_IFDIR); err != nil {
		return wrap(l.dir.Name(), err)
	}
	if a.dirs = a.dirs[:len(a.dirs)-1]; len(a.dirs) > 0 {
		l.close()
	} else {
		a.done = true
	}
	return nil
}

// File implements [Sink].
func (a *Applier) File(name string, m Meta, size int64, patch bool) error {
	l, err := a.here(name)
	if err != nil {
		return err
	}
	if size < 0 {
		return wrap(name, fmt.Errorf("%w: a file of %d bytes", volume.ErrStream, size))
	}
	f, err := open(int(l.dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return wrap(name, err)
	}
	a.file, a.fileName, a.fileMeta, a.fileSize, a.origin = f, name, m, size, nil
	if !patch {
		return nil
	}
	if l.base == nil {
		return wrap(name, fmt.Errorf("%w: it changes a file that is not in the base", volume.ErrStream))
	}
	was, err := openRegular(l.base, name)
	if err != nil {
		return wrap(name, err)
	}
	defer was.Close()
	return wrap(name, a.fill(was))
}

func openRegular(dir *os.File, name string) (*os.File, error) {
	// Opening a device does something to it, so it is asked for first.
	var s unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &s, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || s.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%w: it is not a file in the base", volume.ErrStream)
	}
	return open(int(dir.Fd()), name, unix.O_RDONLY)
}

// endFile gives the file begun last its size and what else it has.
func (a *Applier) endFile() error {
	if a.file == nil {
		return nil
	}
	f, name := a.file, a.fileName
	a.file = nil
	defer f.Close()
	if err := f.Truncate(a.fileSize); err != nil {
		return wrap(name, err)
	}
	dir := a.dirs[len(a.dirs)-1].dir
	if a.origin != nil {
		_ = unix.Fsetxattr(int(f.Fd()), reserved, a.origin, 0) // only saves work
	}
	return wrap(name, a.fileMeta.apply(int(dir.Fd()), name, unix.S_IFREG))
}

// Data implements [Sink].
func (a *Applier) Data(off int64, b []byte) error {
	if a.file == nil {
		return fmt.Errorf("%w: data of no file", volume.ErrStream)
	}
	if off < 0 || off > a.fileSize || int64(len(b)) > a.fileSize-off {
		return wrap(a.fileName, fmt.Errorf("%w: data beyond its end", volume.ErrStream))
	}
	_, err := a.file.WriteAt(b, off)
	return wrap(a.fileName, err)
}

// Hole implements [Sink].
func (a *Applier) Hole(off, n int64) error {
	if a.file == nil {
		return fmt.Errorf("%w: a hole in no file", volume.ErrStream)
	}
	if off < 0 || n <= 0 || off > a.fileSize || n > a.fileSize-off {
		return wrap(a.fileName, fmt.Errorf("%w: a hole beyond its end", volume.ErrStream))
	}
	return wrap(a.fileName, unix.Fallocate(int(a.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
}

// Copy makes the file begun last what from holds.
func (a *Applier) Copy(from *os.File, s *unix.Stat_t) error {
	if a.Origin != nil {
		a.origin = a.Origin(s)
	}
	return wrap(a.fileName, a.fill(from))
}

// fill copies all of from into the file begun last, holes as holes.
func (a *Applier) fill(from *os.File) error {
	to := int(a.file.Fd())
	if a.Reflink {
		return unix.IoctlFileClone(to, int(from.Fd()))
	}
	info, err := from.Stat()
	if err != nil {
		return err
	}
	for off := int64(0); off < info.Size(); {
		start, err := unix.Seek(int(from.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		if off, err = unix.Seek(int(from.Fd()), start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := copyRange(a.file, from, start, off-start); err != nil {
			return err
		}
	}
	return nil
}

// copyRange copies n bytes at off, in the kernel where it can.
func copyRange(to, from *os.File, off, n int64) error {
	for n > 0 {
		in, out := off, off
		k, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, int(min(n, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EXDEV || err == unix.EINVAL || err == unix.EOPNOTSUPP || err == unix.ENOSYS {
			_, err := io.Copy(io.NewOffsetWriter(to, off), io.NewSectionReader(from, off, n))
			return err
		}
		if err != nil || k == 0 { // 0: it has become shorter
			return err
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}

// Symlink implements [Sink].
func (a *Applier) Symlink(name string, m Meta, target string) error {
	l, err := a.here(name)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target, int(l.dir.Fd()), name); err != nil {
		return wrap(name, err)
	}
	return wrap(name, m.apply(int(l.dir.Fd()), name, unix.S_IFLNK))
}

// Node implements [Sink].
func (a *Applier) Node(name string, m Meta, kind uint32, rdev uint64) error {
	l, err := a.here(name)
	if err != nil {
		return err
	}
	switch kind {
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return wrap(name, fmt.Errorf("%w: it is of type %#o", volume.ErrStream, kind))
	}
	if err := unix.Mknodat(int(l.dir.Fd()), name, kind|0o600, int(rdev)); err != nil {
		return wrap(name, err)
	}
	return wrap(name, m.apply(int(l.dir.Fd()), name, kind))
}

// Link implements [Sink]. The path is walked part by part from the root of the
// new tree, through directories only.
func (a *Applier) Link(name, path string) error {
	l, err := a.here(name)
	if err != nil {
		return err
	}
	parts := strings.Split(path, "/")
	dir := a.root
	for i, part := range parts {
		if err := checkName(part); err != nil {
			return err
		}
		if i == len(parts)-1 {
			return wrap(name, unix.Linkat(int(dir.Fd()), part, int(l.dir.Fd()), name, 0))
		}
		next, err := open(int(dir.Fd()), part, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return wrap(name, fmt.Errorf("%w: it links to what is not there: %w", volume.ErrStream, err))
		}
		defer next.Close()
		dir = next
	}
	return nil
}

// Same implements [Sink].
func (a *Applier) Same(name string) error {
	l, err := a.here(name)
	if err != nil {
		return err
	}
	if l.base == nil {
		return wrap(name, fmt.Errorf("%w: it is not in the base", volume.ErrStream))
	}
	f, err := openRegular(l.base, name) // nothing else is shared between snapshots
	if err != nil {
		return wrap(name, err)
	}
	f.Close()
	return wrap(name, unix.Linkat(int(l.base.Fd()), name, int(l.dir.Fd()), name, 0))
}

// End implements [Sink].
func (a *Applier) End() error {
	if !a.done || len(a.dirs) > 0 {
		return fmt.Errorf("%w: it ends before the root was left", volume.ErrStream)
	}
	return nil
}
