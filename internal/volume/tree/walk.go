package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A Walker tells trees.
type Walker struct {
	Sink Sink
	// Same reports whether an entry of the tree is as the one of the base at
	// the same place, without reading either. nil: never.
	Same func(entry, base Entry) bool
	// Live: the tree may change while it is walked, so what is gone since its
	// name was read is not there.
	Live bool

	ctx   context.Context
	links map[inode]string // paths of what has several names
	a, b  []byte
	where []string
}

type inode struct{ dev, ino uint64 }

// An Entry is one as a [Walker] sees it.
type Entry struct {
	unix.Stat_t
	dir  int
	name string
}

// SameInode is a [Walker.Same] for trees whose files are shared with their base.
func SameInode(entry, base Entry) bool {
	return entry.Dev == base.Dev && entry.Ino == base.Ino && entry.Mode&unix.S_IFMT == unix.S_IFREG
}

// Walk tells the tree at root. base is what Same and patches are about; nil:
// nothing. Errors say the path.
func (w *Walker) Walk(ctx context.Context, root, base *os.File) error {
	w.ctx, w.links, w.where = ctx, map[inode]string{}, nil
	w.a, w.b = make([]byte, block), make([]byte, block)
	if err := w.dir(root, base, ""); err != nil {
		return fmt.Errorf("%q: %w", w.path(), err)
	}
	return w.Sink.End()
}

// block is the size of what is read, compared and told at once, in bytes.
const block = 64 << 10

func (w *Walker) path() string {
	var b []byte
	for i, part := range w.where {
		if i > 0 {
			b = append(b, '/')
		}
		b = append(b, part...)
	}
	return string(b)
}

// dir tells an open directory. Its name in the sink is name.
func (w *Walker) dir(f, base *os.File, name string) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return err
	}
	m, err := meta(&s, at(int(f.Fd()), "."))
	if err == nil {
		err = w.Sink.Enter(name, m)
	}
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if w.Live && errors.Is(err, unix.ENOENT) { // it was removed since it was opened
		err = nil
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		w.where = append(w.where, name)
		err := w.entry(f, base, name)
		for try := 0; w.Live && errors.Is(err, errMoved) && try < 100; try++ {
			err = w.entry(f, base, name)
		}
		if err != nil && (!w.Live || err != errGone) {
			return err
		}
		w.where = w.where[:len(w.where)-1]
	}
	return w.Sink.Leave()
}

var (
	errGone  = errors.New("it is gone")                   // since its directory was read
	errMoved = errors.New("it changed while it was read") // before the sink was told of it
)

// entry tells one entry of dir.
func (w *Walker) entry(dir, base *os.File, name string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	e := Entry{dir: int(dir.Fd()), name: name}
	if err := unix.Fstatat(e.dir, name, &e.Stat_t, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
		return errGone
	} else if err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	b := Entry{name: name}
	if base != nil {
		b.dir = int(base.Fd())
		if unix.Fstatat(b.dir, name, &b.Stat_t, unix.AT_SYMLINK_NOFOLLOW) != nil || b.Mode&unix.S_IFMT != e.Mode&unix.S_IFMT {
			base = nil
		}
	}
	kind := e.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return w.enter(e, base)
	}
	if e.Nlink > 1 {
		id := inode{e.Dev, e.Ino}
		if first, ok := w.links[id]; ok {
			return w.Sink.Link(name, first)
		}
		err := w.leaf(e, b, base)
		if err == nil {
			w.links[id] = w.path()
		}
		return err
	}
	return w.leaf(e, b, base)
}

// leaf tells what is no directory.
func (w *Walker) leaf(e, b Entry, base *os.File) error {
	kind := e.Mode & unix.S_IFMT
	if base != nil && w.Same != nil && w.Same(e, b) {
		return w.Sink.Same(e.name)
	}
	if kind == unix.S_IFREG {
		return w.file(e, base)
	}
	m, err := meta(&e.Stat_t, at(e.dir, e.name))
	if err != nil {
		return moved(err)
	}
	if kind != unix.S_IFLNK {
		return w.Sink.Node(e.name, m, kind, e.Rdev)
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(e.dir, e.name, target)
	if err != nil {
		return moved(&os.PathError{Op: "readlink", Path: e.name, Err: err})
	}
	return w.Sink.Symlink(e.name, m, string(target[:n]))
}

// moved marks errors that come from an entry having become another one.
func moved(err error) error {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO, unix.EINVAL} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errMoved, err)
		}
	}
	return err
}

func (w *Walker) enter(e Entry, base *os.File) error {
	f, err := open(e.dir, e.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return moved(err)
	}
	defer f.Close()
	if base != nil {
		if base, err = open(int(base.Fd()), e.name, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return err
		}
		defer base.Close()
	}
	return w.dir(f, base, e.name)
}

// A copier is a sink that takes the data of a file from the file itself.
type copier interface {
	Copy(from *os.File, s *unix.Stat_t) error
}

// file tells a regular file.
func (w *Walker) file(e Entry, base *os.File) error {
	f, err := open(e.dir, e.name, unix.O_RDONLY)
	if err != nil {
		return moved(err)
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &e.Stat_t); err != nil { // of what is read, whatever had the name
		return err
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG {
		return errMoved
	}
	m, err := meta(&e.Stat_t, at(e.dir, e.name))
	if err != nil {
		return moved(err)
	}
	if c, ok := w.Sink.(copier); ok {
		if err := w.Sink.File(e.name, m, e.Size, false); err != nil {
			return err
		}
		return c.Copy(f, &e.Stat_t)
	}
	var was *os.File
	if base != nil {
		if was, err = open(int(base.Fd()), e.name, unix.O_RDONLY); err != nil {
			return err
		}
		defer was.Close()
	}
	if err := w.Sink.File(e.name, m, e.Size, was != nil); err != nil {
		return err
	}
	return w.data(f, was, e.Size)
}

// data tells what is in f, and was not in was.
func (w *Walker) data(f, was *os.File, size int64) error {
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			start, err = size, nil
		}
		if err != nil {
			return fmt.Errorf("find data: %w", err)
		}
		if err := w.hole(was, off, min(start, size)); err != nil || start >= size {
			return err
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find hole: %w", err)
		}
		end = min(end, size)
		for off = start; off < end; off += block {
			if err := w.block(f, was, off, min(block, end-off)); err != nil {
				return err
			}
		}
		off = end
	}
	return nil
}

// block tells n bytes of f, unless was has the same there.
func (w *Walker) block(f, was *os.File, off, n int64) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	k, err := f.ReadAt(w.a[:n], off)
	if err != nil && err != io.EOF {
		return err
	}
	now := w.a[:k] // less, if somebody made it shorter
	if was != nil {
		k, err := was.ReadAt(w.b[:len(now)], off)
		if err != nil && err != io.EOF {
			return err
		}
		if bytes.Equal(now, w.b[:k]) {
			return nil
		}
	}
	return w.Sink.Data(off, now)
}

// hole tells the hole from off to end, where was has data.
func (w *Walker) hole(was *os.File, off, end int64) error {
	if was == nil || off >= end {
		return nil
	}
	start, err := unix.Seek(int(was.Fd()), off, unix.SEEK_DATA)
	if err == unix.ENXIO || err == nil && start >= end {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find data: %w", err)
	}
	return w.Sink.Hole(off, end-off)
}
