package volumetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Describe returns a tree as one line per entry, with all that must survive a
// copy. It shares no code with what makes copies, for it is their judge.
func Describe(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	first := map[[2]uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		line, err := describe(path, name, first)
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func describe(path, name string, first map[[2]uint64]string) (string, error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return "", err
	}
	l := fmt.Sprintf("%q mode=%o owner=%d:%d time=%d.%09d", name, s.Mode, s.Uid, s.Gid, s.Mtim.Sec, s.Mtim.Nsec)
	kind := s.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && s.Nlink > 1 {
		id := [2]uint64{s.Dev, s.Ino}
		if first[id] == "" {
			first[id] = name
		}
		l += fmt.Sprintf(" same=%q", first[id]) // copies of snapshots share, so names count, not links
	}
	switch kind {
	case unix.S_IFREG:
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		sum, err := content(f)
		if err != nil {
			return "", err
		}
		l += fmt.Sprintf(" size=%d sum=%s", s.Size, sum)
		if s.Size > 8<<20 { // of the large ones only: file systems lay out small ones as they like
			l += fmt.Sprintf(" sparse=%v", s.Blocks*512 < s.Size/2)
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		l += fmt.Sprintf(" to=%q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		l += fmt.Sprintf(" device=%d:%d", unix.Major(s.Rdev), unix.Minor(s.Rdev))
	}
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", err
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	for _, x := range names {
		if strings.HasPrefix(x, "trusted.bowline.") {
			continue
		}
		n, err := unix.Lgetxattr(path, x, buf)
		if err != nil {
			return "", err
		}
		l += fmt.Sprintf(" %s=%x", x, buf[:n])
	}
	return l, nil
}

// content returns what is in a file, as a hash of all that is not zero and where
// it is: holes are zeros, and need not be read.
func content(f *os.File) (string, error) {
	h := sha256.New()
	b := make([]byte, 4096)
	for off := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return fmt.Sprintf("%.8x", h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
		off = start &^ 4095
		n, err := f.ReadAt(b, off)
		if err != nil && err != io.EOF {
			return "", err
		}
		if len(bytes.Trim(b[:n], "\x00")) > 0 {
			clear(b[n:])
			fmt.Fprintln(h, off)
			h.Write(b)
		}
		off += 4096
	}
}

// Same fails the test unless both trees are equal in all that Describe tells.
func Same(t testing.TB, what string, want []string, root string) {
	t.Helper()
	if d := difference(want, Describe(t, root)); d != "" {
		t.Errorf("%s: not as it was:\n%s", what, d)
	}
}

// difference prints the lines of which only one side has them.
func difference(want, got []string) string {
	var b strings.Builder
	for _, l := range want {
		if !slices.Contains(got, l) {
			fmt.Fprintln(&b, "- "+l)
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			fmt.Fprintln(&b, "+ "+l)
		}
	}
	return b.String()
}
