package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lock takes a lock that belongs to the network namespace itself: the inode of
// its nsfs file. Adding elements shares it, removing an empty table has it
// alone. It ends with the process, and leaves no file behind. Of a sandbox there is
// none.
func (h *Handle) lock(how int) (unlock func(), err error) {
	if h.dry != nil || h.sandbox { // whoever is in a sandbox could keep us waiting
		return func() {}, nil
	}
	path := "/proc/thread-self/ns/net"
	if h.ns != nil {
		path = fmt.Sprintf("/proc/self/fd/%d", h.ns.Fd())
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for {
		if err = unix.Flock(fd, how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { unix.Close(fd) }, nil
}
