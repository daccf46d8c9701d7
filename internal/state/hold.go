package state

import (
	"crypto/sha256"
	"encoding/binary"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What is repaired while it is being removed would come back and stay, for its
// record is erased after it. So whoever removes an endpoint, or repairs it,
// holds it meanwhile, and whoever repairs reads its record again when he does.
// A hold is one byte of a file, at the hash of a name: it costs three system
// calls, leaves no file per endpoint behind, and ends with its process.

// holdWait is how long a removal waits for a repair. One that hangs must not
// keep an engine from ending its containers.
const holdWait = 5 * time.Second

// Hold keeps others from holding the endpoint, or the network if id is empty,
// until release is called. It waits for who holds it, but not for ever, and
// nobody who removes something is kept from it by a file system that is full.
func (e Endpoints) Hold(driver, network, id string) (release func()) {
	fd, err := e.holds(driver)
	if err != nil {
		return func() {}
	}
	for until := time.Now().Add(holdWait); !take(fd, driver, network, id) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	return func() { unix.Close(fd) }
}

// TryHold is Hold that does not wait; ok is false if somebody else holds it, or
// if nobody can.
func (e Endpoints) TryHold(driver, network, id string) (release func(), ok bool) {
	fd, err := e.holds(driver)
	if err != nil {
		return nil, false
	}
	if !take(fd, driver, network, id) {
		unix.Close(fd)
		return nil, false
	}
	return func() { unix.Close(fd) }, true
}

func (e Endpoints) holds(driver string) (fd int, err error) {
	path := filepath.Join(e.store.Dir, ".lock-"+Key(driver)+"-holds")
	for {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func take(fd int, driver, network, id string) bool {
	sum := sha256.Sum256([]byte(endpointName(driver, network, id)))
	at := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(binary.BigEndian.Uint64(sum[:8]) >> 2), Len: 1}
	for {
		// OFD locks belong to the open file, not to the process.
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &at)
		if err != unix.EINTR {
			return err == nil
		}
	}
}
