package ipam

import (
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A rawFile is a descriptor. Unlike os.File it is not registered with the
// poller, which would cost more than all that is read here.
type rawFile struct {
	fd   int
	path string // for errors
}

func (f rawFile) ReadAt(b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Pread(f.fd, b[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, &fs.PathError{Op: "read", Path: f.path, Err: err}
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
		m, err := unix.Pwrite(f.fd, b[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, &fs.PathError{Op: "write", Path: f.path, Err: err}
		}
		n += m
	}
	return n, nil
}
