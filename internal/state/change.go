package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A driver's records of endpoints are changed while these live by two kinds of
// processes: the one that serves an engine, and commands. Each says so for as
// long as it reads a record and writes it again.

// Serving waits until no command changes records of the driver, and keeps them
// from beginning until unlock is called. Several may be serving at once.
func (e Endpoints) Serving(driver string) (unlock func(), err error) {
	return e.store.lock(driver, unix.LOCK_SH)
}

// Changing waits until nobody else changes records of the driver, and keeps them
// from beginning until unlock is called.
func (e Endpoints) Changing(driver string) (unlock func(), err error) {
	return e.store.lock(driver, unix.LOCK_EX)
}

// Replace writes the record in place of the Ready one that is there. The error
// wraps fs.ErrNotExist if there is none, or none any more: a record never comes
// back when its endpoint has been deleted.
func (e Endpoints) Replace(ctx context.Context, r Endpoint) error {
	if !r.Ready {
		return fmt.Errorf("replace record of %s: it is not ready: %w", r.ID, fs.ErrNotExist)
	}
	return e.store.put(ctx, r.name(), r, exchange)
}

// exchange renames from to to, which must be there.
func exchange(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) { // not on this file system
		if err = unix.Access(to, unix.F_OK); err == nil {
			return unix.Rename(from, to)
		}
	}
	if err == nil {
		err = unix.Unlink(from)
	}
	return err
}
