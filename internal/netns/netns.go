// Package netns opens, makes and enters network namespaces.
//
// A namespace is a value that is passed, not a place where one is. What must
// run inside, such as opening a socket or writing below /proc/sys/net, goes
// through [Do]; a socket opened there can be used from anywhere.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// A Handle is an open network namespace.
type Handle struct {
	file *os.File
	fd   uintptr
	path string
}

// An ID tells namespaces of one boot apart: device and inode of the nsfs file.
type ID struct {
	Dev, Ino uint64
}

// Open opens the namespace at path: a bind mount such as /run/netns/x, or
// /proc/PID/ns/net. The error wraps fs.ErrNotExist if there is nothing, and is
// [ErrNotNamespace] if path is something else.
func Open(path string) (*Handle, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil || s.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrNotNamespace)
	}
	return &Handle{f, f.Fd(), path}, nil
}

// OpenIno opens the namespace at path if it is the one with that inode, and
// returns nil if it is another one, or none.
func OpenIno(path string, ino uint64) *Handle {
	if path == "" {
		return nil
	}
	h, err := Open(path)
	if err != nil {
		return nil
	}
	if id, err := h.ID(); err != nil || id.Ino != ino {
		h.Close()
		return nil
	}
	return h
}

// ErrNotNamespace says that a path holds something other than a namespace, for
// example an empty file that was once a mount point.
var ErrNotNamespace = errors.New("not a network namespace")

// Current opens the namespace of the calling thread.
func Current() (*Handle, error) { return Open("/proc/thread-self/ns/net") }

// Fd returns the descriptor, valid until Close.
func (h *Handle) Fd() uintptr { return h.fd }

// Path returns what was given to [Open].
func (h *Handle) Path() string { return h.path }

// Close closes the descriptor; the namespace lives on if something else holds it.
func (h *Handle) Close() error { return h.file.Close() }

// ID returns the identity of the namespace.
func (h *Handle) ID() (ID, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(h.fd), &s); err != nil {
		return ID{}, fmt.Errorf("stat %s: %w", h.path, err)
	}
	return ID{s.Dev, s.Ino}, nil
}

// Stat returns the identity of the namespace at path without opening it; ok is
// false if path does not exist or is not a namespace.
func Stat(path string) (id ID, ok bool) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return ID{}, false
	}
	var sf unix.Statfs_t
	if err := unix.Statfs(path, &sf); err != nil || sf.Type != unix.NSFS_MAGIC {
		return ID{}, false
	}
	return ID{s.Dev, s.Ino}, true
}

// Do runs f inside ns and returns its error. f must not start goroutines that
// expect to be inside.
//
// It takes the calling thread there and back: another thread would cost a
// process that attaches one container a tenth of its time. Nothing else runs on
// the thread meanwhile. A way back that fails would leave the caller in a place
// that it does not know of, so that is a panic; it takes a capability that is
// lost between the two calls.
func Do(ns interface{ Fd() uintptr }, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer func() {
		if err := unix.Setns(own, unix.CLONE_NEWNET); err != nil {
			panic("return from network namespace: " + err.Error())
		}
	}()
	return f()
}

// New makes a namespace that lives as long as the handle, or longer if it is
// mounted or entered meanwhile. Its loopback is down.
func New() (*Handle, error) {
	type result struct {
		h   *Handle
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, as in Do
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("make network namespace: %w", err)}
			return
		}
		h, err := Current()
		done <- result{h, err}
	}()
	r := <-done
	return r.h, r.err
}

// NewAt makes a namespace that stays mounted at path until [Remove]. The error
// wraps fs.ErrExist if path is there already.
func NewAt(path string) (*Handle, error) {
	if err := place(path); err != nil {
		return nil, err
	}
	h, err := New()
	if err != nil {
		os.Remove(path)
		return nil, err
	}
	if err := h.mount(path); err != nil {
		h.Close()
		return nil, err
	}
	h.path = path
	return h, nil
}

// Pin mounts the namespace at path, too: it lives until [Remove] then, whoever
// leaves it. The error wraps fs.ErrExist if path is there already.
func (h *Handle) Pin(path string) error {
	if err := place(path); err != nil {
		return err
	}
	return h.mount(path)
}

// place makes the empty file that a namespace is mounted on.
func place(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	return f.Close()
}

// mount mounts the namespace on what place made, which goes if that fails.
func (h *Handle) mount(path string) error {
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", h.fd), path, "", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("mount network namespace at %s: %w", path, err)
	}
	return nil
}

// Remove unmounts and removes what NewAt or Pin made. It succeeds if there is nothing.
func Remove(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
