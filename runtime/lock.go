package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"crypto/sha256"

	"golang.org/x/sys/unix"
)

// locks are advisory locks by name, shared or exclusive, between processes and
// goroutines. All live in one file, each as the one byte at the hash of its
// name: names come and go without leaving files behind, and a lock ends with
// its process.
//
// Whoever needs two takes that of the sandbox before that of the network.
type locks struct {
	path string
}

// exclusive waits for the lock and returns what releases it.
func (l locks) exclusive(name string) (unlock func(), err error) { return l.take(name, unix.F_WRLCK) }

// shared is exclusive but for other shared holders.
func (l locks) shared(name string) (unlock func(), err error) { return l.take(name, unix.F_RDLCK) }

func (l locks) take(name string, kind int16) (func(), error) {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	sum := sha256.Sum256([]byte(name))
	at := unix.Flock_t{Type: kind, Start: int64(binary.BigEndian.Uint64(sum[:8]) >> 2), Len: 1}
	for {
		// OFD locks belong to the open file, not to the process.
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &at)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

func sandboxLock(name string) string { return "sandbox " + name }
func networkLock(name string) string { return "network " + name }
