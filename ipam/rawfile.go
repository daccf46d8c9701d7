package ipam

import (
	"io"

	"golang.org/x/sys/unix"
)

// A rawFile is a descriptor. Unlike os.File it is not registered with the
// poller, which would cost more than all that is read here.
type rawFile int

func (f rawFile) ReadAt(b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Pread(int(f), b[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

func (f rawFile) WriteAt(b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Pwrite(int(f), b[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}
