package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock waits for the exclusive lock of that name and returns what releases it.
// It holds between processes and between goroutines, and ends with its process.
// Lock files stay behind: removing one would let two holders in.
func (s Store) Lock(name string) (unlock func(), err error) {
	return s.lock(name, unix.LOCK_EX)
}

func (s Store) lock(name string, how int) (unlock func(), err error) {
	path := filepath.Join(s.Dir, ".lock-"+Key(name))
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(s.Dir, 0o700); err != nil {
			return nil, err
		}
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	for {
		err = unix.Flock(fd, how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { unix.Close(fd) }, nil
}

// Sweep removes the temporary files that killed writers left below dir, if they
// are older than age. One that is of the future by as much is of a time when the
// clock was wrong.
func (s Store) Sweep(dir string, age time.Duration) error {
	return filepath.WalkDir(filepath.Join(s.Dir, dir), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}
		if !d.Type().IsRegular() || !strings.HasPrefix(d.Name(), ".tmp-") {
			return nil
		}
		if info, err := d.Info(); err == nil && time.Since(info.ModTime()).Abs() >= age {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}
