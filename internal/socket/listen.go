package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Listen binds the unix socket at path, for root only, in a directory that it
// makes if need be. A socket that nobody answers is replaced in one step, so
// that there is no moment without one; one that somebody answers is left alone
// and is an error. Closing the listener removes the socket if it is still ours.
func Listen(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer unlock()
	if err := mustBeStale(path); err != nil {
		return nil, err
	}
	// Born in a directory of its own, which only root can enter, so that it is
	// never there with other permissions, nor bound without listening.
	if err := sweep(dir); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	private, err := os.MkdirTemp(dir, newborn)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer os.RemoveAll(private)
	born := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: born, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	info, err := place(born, path)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &owned{l, path, info}, nil
}

// newborn starts the names of directories that sockets are born in.
const newborn = ".bwl-"

// sweep removes those that killed servers left. The caller has locked dir, so
// nobody is in the middle of making one.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), newborn) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func place(born, path string) (fs.FileInfo, error) {
	if err := os.Chmod(born, 0o600); err != nil {
		return nil, err
	}
	info, err := os.Lstat(born)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(born, path)
}

// mustBeStale returns nil if there is nothing at path, or a socket that nobody
// listens on.
func mustBeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on %s: there is something that is not a socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("listen on %s: another server answers there", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen on %s: cannot tell whether another server answers there: %w", path, err)
	}
	return nil
}

// lockDir keeps two servers from replacing each other's socket at once. The
// directory itself is locked, so that no lock file stays behind.
func lockDir(dir string) (unlock func(), err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { unix.Close(fd) }, nil
}

// owned removes its socket when it is closed, unless a successor has replaced it.
type owned struct {
	*net.UnixListener
	path string
	born fs.FileInfo
}

// Addr returns the path that clients dial, not the one it was born at.
func (o *owned) Addr() net.Addr { return &net.UnixAddr{Name: o.path, Net: "unix"} }

func (o *owned) Close() error {
	if unlock, err := lockDir(filepath.Dir(o.path)); err == nil {
		if now, err := os.Lstat(o.path); err == nil && os.SameFile(now, o.born) {
			os.Remove(o.path)
		}
		unlock()
	}
	return o.UnixListener.Close()
}

// firstFD is the first descriptor that systemd passes (sd_listen_fds(3)).
const firstFD = 3

// Activated returns the sockets that systemd listens on for this process, or
// none if it was not started by a socket unit. It clears the variables that say
// so, since they are not meant for children. Closing these leaves the sockets
// to systemd.
func Activated() ([]net.Listener, error) {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	count, err := strconv.Atoi(n)
	if err != nil || count < 0 {
		return nil, fmt.Errorf("LISTEN_FDS=%q: want how many sockets systemd passes", n)
	}
	var ls []net.Listener
	for fd := firstFD; fd < firstFD+count; fd++ {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "LISTEN_FD_"+strconv.Itoa(fd))
		l, err := net.FileListener(f) // has a descriptor of its own
		f.Close()
		if err != nil {
			for _, l := range ls {
				l.Close()
			}
			return nil, fmt.Errorf("descriptor %d passed by systemd: %w", fd, err)
		}
		ls = append(ls, l)
	}
	return ls, nil
}
