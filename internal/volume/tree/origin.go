package tree

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Origin says which state of which file a copy is of, if the file was last
// changed before that time; else nil, for it may change again without that being
// seen. The time is that of the inode's change, which nobody can set.
func Origin(s *unix.Stat_t, before time.Time) []byte {
	if !time.Unix(s.Ctim.Unix()).Before(before) {
		return nil
	}
	return origin(s)
}

func origin(s *unix.Stat_t) []byte {
	return fmt.Appendf(nil, "%x %x %x.%x %x", s.Dev, s.Ino, s.Ctim.Sec, s.Ctim.Nsec, s.Size)
}

// SameOrigin is a [Walker.Same]: the entry is still what the one of the base was
// copied from.
func SameOrigin(entry, base Entry) bool {
	if entry.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	value := make([]byte, 128)
	n, err := unix.Lgetxattr(at(base.dir, base.name), reserved, value)
	return err == nil && string(value[:n]) == string(origin(&entry.Stat_t))
}
