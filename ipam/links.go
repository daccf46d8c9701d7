package ipam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// holder returns whom a belongs to; ok is false if it is free.
func (l *session) holder(a netip.Addr) (o Owner, ok bool, err error) {
	target, err := l.readLink(addrsDir + "/" + a.String())
	if err != nil || target == "" {
		return Owner{}, false, err
	}
	return ownerOf(target), true, nil
}

// take makes a belong to o. It fails with EEXIST if a belongs to anyone.
func (l *session) take(ctx context.Context, a netip.Addr, o Owner) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("take %s: %w", a, err)
	}
	if err := l.makeLink(addrsDir, o.String(), a.String()); err != nil {
		return fmt.Errorf("take %s: %w", a, err)
	}
	return nil
}

// give makes a free if it belongs to o.
func (l *session) give(ctx context.Context, a netip.Addr, o Owner) (was bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("release %s: %w", a, err)
	}
	holder, ok, err := l.holder(a)
	if err != nil || !ok || holder != o {
		return false, err
	}
	if err := unix.Unlinkat(l.dir, addrsDir+"/"+a.String(), 0); err != nil && err != unix.ENOENT {
		return false, fmt.Errorf("release %s: %w", a, l.at("remove", addrsDir+"/"+a.String(), err))
	}
	return true, nil
}

// taken returns the addresses that belong to anyone, in no order.
func (s *Store) taken() ([]netip.Addr, error) {
	d, err := os.Open(filepath.Join(s.st.Dir, addrsDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list taken addresses: %w", err)
	}
	addrs := make([]netip.Addr, 0, len(names))
	for _, name := range names {
		if a, err := netip.ParseAddr(name); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// linksOf finds by search what belongs to o, for when its record is lost.
func (l *session) linksOf(o Owner) ([]netip.Addr, error) {
	all, err := l.taken()
	if err != nil {
		return nil, err
	}
	var own []netip.Addr
	for _, a := range all {
		if holder, ok, err := l.holder(a); err != nil {
			return nil, err
		} else if ok && holder == o {
			own = append(own, a)
		}
	}
	return own, nil
}

// readLink returns where the link points, "" if there is none.
func (l *session) readLink(name string) (string, error) {
	buf := make([]byte, 1024)
	n, err := unix.Readlinkat(l.dir, name, buf)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return "", nil
	}
	if err != nil {
		return "", l.at("read link", name, err)
	}
	return string(buf[:n]), nil
}

// makeLink makes dir/name point to target, and dir if need be.
func (l *session) makeLink(dir, target, name string) error {
	path := dir + "/" + name
	err := unix.Symlinkat(target, l.dir, path)
	if err == unix.ENOENT {
		if err := unix.Mkdirat(l.dir, dir, 0o700); err != nil && err != unix.EEXIST {
			return l.at("make", dir, err)
		}
		err = unix.Symlinkat(target, l.dir, path)
	}
	if err != nil {
		return l.at("make link", path, err)
	}
	return nil
}

// at says what could not be done, and with which file of the store.
func (l *session) at(what, name string, err error) error {
	return &fs.PathError{Op: what, Path: filepath.Join(l.st.Dir, name), Err: err}
}

// newLink is the link that takes another's place next. A kill may leave it to GC.
const newLink = ".tmp"

// replaceLink makes dir/name point to target, wherever it points now.
func (l *session) replaceLink(dir, target, name string) error {
	err := l.makeLink(dir, target, newLink)
	if errors.Is(err, unix.EEXIST) { // left by a kill
		if err := l.removeLink(dir + "/" + newLink); err != nil {
			return err
		}
		err = l.makeLink(dir, target, newLink)
	}
	if err != nil {
		return err
	}
	if err := unix.Renameat(l.dir, dir+"/"+newLink, l.dir, dir+"/"+name); err != nil {
		return l.at("make link", dir+"/"+name, err)
	}
	return nil
}

func (l *session) removeLink(path string) error {
	if err := unix.Unlinkat(l.dir, path, 0); err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
		return l.at("remove", path, err)
	}
	return nil
}

// hint returns the hint of the space with that key and size, open until unlock.
// Without make it is nil if there is none.
func (l *session) hint(key string, size uint64, make bool) (h *hint, fresh bool, err error) {
	if h := l.hints[key]; h != nil {
		return h, false, nil
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if make {
		flags |= unix.O_CREAT
	}
	fd, err := unix.Openat(l.dir, hintFiles+key, flags, 0o600)
	if err == unix.ENOENT && !make {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, l.at("open", hintFiles+key, err)
	}
	h, fresh, err = openHint(rawFile{fd, filepath.Join(l.st.Dir, hintFiles+key)}, size)
	if err != nil || fresh && !make {
		unix.Close(fd)
		return nil, false, err
	}
	if l.hints == nil {
		l.hints = map[string]*hint{}
	}
	l.hints[key], l.files = h, append(l.files, fd)
	return h, fresh, nil
}
