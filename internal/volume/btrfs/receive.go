package btrfs

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
)

// A receiver does what a stream says, below one subvolume. Paths are resolved by
// the kernel, which is told not to leave that and to follow no links; what is
// not a plain file is never opened.
type receiver struct {
	ctx    context.Context
	delta  volume.Delta
	base   string // directory of the base; empty: none
	made   string // where the subvolume is made
	root   *os.File
	uuid   [16]byte // what the stream calls the subvolume
	trans  uint64
	clones map[[16]byte]*os.File // subvolumes to share blocks with
	dir    cached                // of the command before
	file   cached
	// plain: extents are written as what is in them, as if the kernel took no
	// compressed ones.
	plain bool
}

// cached is the last thing that was opened by its path.
type cached struct {
	path string
	f    *os.File
}

func (c *cached) drop() {
	if c.f != nil {
		c.f.Close()
	}
	*c = cached{}
}

// receive makes the subvolume that the stream is of, and returns it open.
func receive(ctx context.Context, r io.Reader, d volume.Delta, base, made string) (*receiver, error) {
	rec := &receiver{ctx: ctx, delta: d, base: base, made: made, clones: map[[16]byte]*os.File{}}
	return rec, rec.run(r)
}

func (r *receiver) run(from io.Reader) error {
	s, err := newReader(from)
	if err != nil {
		return err
	}
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		c, err := s.next()
		if err != nil {
			return err
		}
		if c.kind == cmdEnd {
			if r.root == nil {
				return damaged("it ends before it begins")
			}
			return s.end()
		}
		if err := r.do(c); err != nil {
			return fmt.Errorf("%.200q: %w", c.attrs[attrPath], err)
		}
	}
}

func (r *receiver) close() {
	r.dir.drop()
	r.file.drop()
	for _, f := range r.clones {
		f.Close()
	}
	if r.root != nil {
		r.root.Close()
	}
	r.clones, r.root = nil, nil
}

// begin makes the subvolume: an empty one, or a snapshot of the base.
func (r *receiver) begin(c *command) error {
	uuid, trans := c.uuid(attrUUID), c.u64(attrCtransID)
	if c.err != nil {
		return c.err
	}
	if hex.EncodeToString(uuid[:]) != string(r.delta.To.ID) {
		return damaged("it is of snapshot %x, want %s", uuid, r.delta.To.ID)
	}
	if (c.kind == cmdSnapshot) != (r.base != "") {
		return damaged("whether it has a base is not as was said before")
	}
	if c.kind == cmdSubvol {
		if err := createSubvolume(r.made); err != nil {
			return err
		}
	} else {
		of := c.uuid(attrCloneUUID)
		if c.err != nil {
			return c.err
		}
		if hex.EncodeToString(of[:]) != string(r.delta.Base.ID) {
			return damaged("its base is %x, want %s", of, r.delta.Base.ID)
		}
		base, err := openDir(r.base)
		if err != nil {
			return err
		}
		r.clones[of] = base
		if err := createSnapshot(base, r.made, 0); err != nil {
			return err
		}
	}
	root, err := openDir(r.made)
	if err != nil {
		return err
	}
	r.root, r.uuid, r.trans = root, uuid, trans
	return nil
}

// beneath opens what is at a path in a tree, through no link and to none.
func beneath(root *os.File, p string, flags uint64) (*os.File, error) {
	if p == "" {
		p = "."
	}
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	if flags&unix.O_PATH != 0 && flags&unix.O_DIRECTORY == 0 {
		how.Resolve &^= unix.RESOLVE_NO_SYMLINKS // the last part may be one; it is not followed
		if dir := path.Dir(p); dir != "." {
			parent, err := beneath(root, dir, unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return nil, err
			}
			defer parent.Close()
			root, p = parent, path.Base(p)
		}
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), p, &how)
		if err == nil {
			return os.NewFile(uintptr(fd), p), nil
		}
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: something was renamed meanwhile
			return nil, refused(err)
		}
	}
}

// refused marks the errors by which the kernel keeps a path inside.
func refused(err error) error {
	for _, e := range []error{unix.EXDEV, unix.ELOOP, unix.ENOENT, unix.ENOTDIR, unix.EINVAL, unix.ENAMETOOLONG, unix.EEXIST, unix.EISDIR, unix.ENOTEMPTY} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", volume.ErrStream, err)
		}
	}
	return err
}

// split returns the open directory of a path, and the last part of it.
func (r *receiver) split(p string) (dir int, name string, err error) {
	parent, name := path.Split(p)
	parent = strings.TrimSuffix(parent, "/")
	if name == "" || name == "." || name == ".." || strings.Contains(p, "\x00") {
		return 0, "", damaged("a path %.80q", p)
	}
	if parent == "" {
		return int(r.root.Fd()), name, nil
	}
	if r.dir.f == nil || r.dir.path != parent {
		r.dir.drop()
		f, err := beneath(r.root, parent, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return 0, "", err
		}
		r.dir = cached{parent, f}
	}
	return int(r.dir.f.Fd()), name, nil
}

// open opens a plain file to read and write.
func (r *receiver) open(p string) (*os.File, error) {
	if r.file.f != nil && r.file.path == p {
		return r.file.f, nil
	}
	r.file.drop()
	f, err := openFile(r.root, p, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	r.file = cached{p, f}
	return f, nil
}

// openFile opens a plain file. What else there may be is not opened at all.
func openFile(root *os.File, p string, flags int) (*os.File, error) {
	h, err := beneath(root, p, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var s unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &s); err != nil {
		return nil, err
	}
	if s.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, damaged("it is no plain file")
	}
	return os.OpenFile(self(int(h.Fd())), flags|unix.O_CLOEXEC, 0)
}

func self(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// clone shares blocks of another file, of this subvolume or the base.
func (r *receiver) clone(c *command, to *os.File) error {
	from := unix.FileCloneRange{Src_offset: uint64(c.offset(attrCloneOffset)), Src_length: uint64(c.offset(attrCloneLen)), Dest_offset: uint64(c.offset(attrFileOffset))}
	of, p := c.uuid(attrCloneUUID), c.text(attrClonePath)
	if c.err != nil {
		return c.err
	}
	root := r.clones[of]
	if of == r.uuid {
		root = r.root
	}
	if root == nil {
		return damaged("it shares with %x, which is not its base", of)
	}
	src, err := openFile(root, p, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.Close()
	from.Src_fd = int64(src.Fd())
	return refused(unix.IoctlFileCloneRange(int(to.Fd()), &from))
}

// node makes a device or a fifo.
func (r *receiver) node(c *command, p string) error {
	mode, rdev := uint32(c.u64(attrMode)), c.optional(attrRdev)
	dir, name, err := r.split(p)
	if err = errors.Join(c.err, err); err != nil {
		return err
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO:
	default:
		return damaged("a node of mode %#o", mode)
	}
	if err := unix.Mknodat(dir, name, mode&unix.S_IFMT|0o600, int(rdev)); err != nil {
		return refused(err)
	}
	return r.bare(dir, name)
}

// bare takes the ACLs away that something new inherited.
func (r *receiver) bare(dir int, name string) error {
	at := self(dir) + "/" + name
	for _, acl := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if err := unix.Lremovexattr(at, acl); err != nil && err != unix.ENODATA && err != unix.ENOTSUP && err != unix.EACCES && err != unix.EPERM {
			return err
		}
	}
	return nil
}

func timeOf(b []byte) unix.Timespec {
	return unix.Timespec{Sec: int64(binary.LittleEndian.Uint64(b)), Nsec: int64(binary.LittleEndian.Uint32(b[8:]) % 1e9)}
}
