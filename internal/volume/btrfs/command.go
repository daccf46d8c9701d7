package btrfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume/tree"
)

// do does what a command says.
func (r *receiver) do(c *command) error {
	if begins := c.kind == cmdSubvol || c.kind == cmdSnapshot; begins != (r.root == nil) {
		return damaged("command %d where it cannot be", c.kind)
	} else if begins {
		return r.begin(c)
	}
	switch c.kind {
	case cmdWrite, cmdClone, cmdTruncate, cmdEncodedWrite, cmdFallocate:
		return r.data(c)
	case cmdMkfile, cmdMkdir, cmdMknod, cmdMkfifo, cmdMksock, cmdSymlink, cmdLink:
		return r.create(c)
	case cmdRename, cmdUnlink, cmdRmdir:
		return r.remove(c)
	case cmdSetXattr, cmdRemoveXattr, cmdChmod, cmdChown, cmdUtimes:
		return r.meta(c)
	}
	return damaged("command %d is not known here", c.kind)
}

// data changes what is in a file.
func (r *receiver) data(c *command) error {
	f, err := r.open(c.text(attrPath))
	if err = errors.Join(c.err, err); err != nil {
		return err
	}
	switch c.kind {
	case cmdTruncate:
		size := c.offset(attrSize)
		if c.err != nil {
			return c.err
		}
		return refused(f.Truncate(size))
	case cmdClone:
		return r.clone(c, f)
	case cmdEncodedWrite:
		return r.encoded(c, f)
	case cmdFallocate:
		mode, off, n := c.optional(attrFallocateMode), c.offset(attrFileOffset), c.offset(attrSize)
		if c.err != nil {
			return c.err
		}
		return refused(unix.Fallocate(int(f.Fd()), uint32(mode), off, n))
	}
	off, b := c.offset(attrFileOffset), c.get(attrData, -1)
	if c.err != nil {
		return c.err
	}
	_, err = f.WriteAt(b, off)
	return refused(err)
}

// encoded writes an extent as it is compressed if the kernel takes it, or else
// what is in it.
func (r *receiver) encoded(c *command, f *os.File) error {
	e := encoded{
		offset: c.offset(attrFileOffset), fileLen: c.u64(attrUnencodedFileLen), unencodedLen: c.u64(attrUnencodedLen),
		unencodedOffset: c.optional(attrUnencodedOffset), compression: uint32(c.optional(attrCompression)), encryption: uint32(c.optional(attrEncryption)),
	}
	b := c.get(attrData, -1)
	if c.err != nil {
		return c.err
	}
	if e.encryption != 0 || e.unencodedLen > maxExtent || e.unencodedOffset > e.unencodedLen || e.fileLen > e.unencodedLen-e.unencodedOffset {
		return damaged("an extent of %d bytes at %d of %d", e.fileLen, e.unencodedOffset, e.unencodedLen)
	}
	if !r.plain {
		err := encodedWrite(f, e, b)
		if err == nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return err
		}
		// Not here: another size of pages, or a file that is not to be compressed.
	}
	text, err := expand(e, b)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text[e.unencodedOffset:][:e.fileLen], e.offset)
	return refused(err)
}

// create makes something new.
func (r *receiver) create(c *command) error {
	r.file.drop()
	p := c.text(attrPath)
	if c.kind == cmdMksock {
		return tree.ErrSocket
	}
	if c.kind == cmdMknod || c.kind == cmdMkfifo {
		return r.node(c, p)
	}
	link := ""
	if c.kind == cmdSymlink || c.kind == cmdLink {
		link = c.text(attrPathLink)
	}
	dir, name, err := r.split(p)
	if err = errors.Join(c.err, err); err != nil {
		return err
	}
	switch c.kind {
	case cmdMkfile:
		err = unix.Mknodat(dir, name, unix.S_IFREG|0o600, 0)
	case cmdMkdir:
		err = unix.Mkdirat(dir, name, 0o700)
	case cmdSymlink:
		return refused(unix.Symlinkat(link, dir, name))
	case cmdLink:
		was, err := beneath(r.root, link, unix.O_PATH)
		if err != nil {
			return err
		}
		defer was.Close()
		return refused(unix.Linkat(int(was.Fd()), "", dir, name, unix.AT_EMPTY_PATH))
	}
	if err != nil {
		return refused(err)
	}
	return r.bare(dir, name)
}

// remove takes names away, or changes them.
func (r *receiver) remove(c *command) error {
	defer r.dir.drop() // it may have been that one
	r.file.drop()
	dir, name, err := r.split(c.text(attrPath))
	if err = errors.Join(c.err, err); err != nil {
		return err
	}
	switch c.kind {
	case cmdUnlink:
		return refused(unix.Unlinkat(dir, name, 0))
	case cmdRmdir:
		return refused(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
	}
	to := c.text(attrPathTo)
	if c.err != nil {
		return c.err
	}
	if dir, err = unix.Dup(dir); err != nil { // the next may close it
		return err
	}
	defer unix.Close(dir)
	toDir, toName, err := r.split(to)
	if err != nil {
		return err
	}
	return refused(unix.Renameat(dir, name, toDir, toName))
}

// meta changes what an inode has beside what is in it. It may be a link, which
// is not followed.
func (r *receiver) meta(c *command) error {
	h, err := beneath(r.root, c.text(attrPath), unix.O_PATH)
	if err = errors.Join(c.err, err); err != nil {
		return err
	}
	defer h.Close()
	fd := int(h.Fd())
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return err
	}
	link := s.Mode&unix.S_IFMT == unix.S_IFLNK
	switch c.kind {
	case cmdChown:
		uid, gid := c.u64(attrUID), c.u64(attrGID)
		if c.err != nil {
			return c.err
		}
		return unix.Fchownat(fd, "", int(uint32(uid)), int(uint32(gid)), unix.AT_EMPTY_PATH)
	case cmdUtimes:
		a, m := timeOf(c.get(attrAtime, 12)), timeOf(c.get(attrMtime, 12))
		if c.err != nil {
			return c.err
		}
		return unix.UtimesNanoAt(fd, "", []unix.Timespec{a, m}, unix.AT_EMPTY_PATH)
	case cmdChmod:
		mode := c.u64(attrMode)
		if c.err != nil || link {
			return errors.Join(c.err, damaged("the mode of a link"))
		}
		return unix.Chmod(self(fd), uint32(mode)&0o7777)
	}
	name := c.text(attrXattrName)
	if c.err != nil {
		return c.err
	}
	// A link is reached by its directory, for the descriptor of one is followed.
	at, call := self(fd), unix.Setxattr
	if link {
		dir, last, err := r.split(c.text(attrPath))
		if err != nil {
			return err
		}
		at, call = self(dir)+"/"+last, unix.Lsetxattr
	}
	if c.kind == cmdRemoveXattr {
		if link {
			return refused(unix.Lremovexattr(at, name))
		}
		return refused(unix.Removexattr(at, name))
	}
	value := c.get(attrXattrData, -1)
	if c.err != nil {
		return c.err
	}
	return refused(call(at, name, value, 0))
}
