// Package fsys asks file systems what they can do, and has them hold still.
package fsys

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
)

// The kinds of back-ends that a file system can have.
const (
	Btrfs   = "btrfs"
	Reflink = "reflink"
	Dir     = "dir"
)

// Kind returns the best kind of back-end for volumes below dir, which it tries
// out there.
func Kind(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if s.Type == unix.BTRFS_SUPER_MAGIC {
		return Btrfs, nil
	}
	// Without names, so that a kill leaves nothing.
	from, ferr := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	defer unix.Close(from)
	to, terr := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	defer unix.Close(to)
	if ferr == nil && terr == nil && unix.IoctlFileClone(to, from) == nil {
		return Reflink, nil
	}
	return Dir, nil
}

// Sync writes out all that the file system of dir has in memory.
func Sync(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// The ioctls of fsfreeze(8).
const (
	fifreeze = 0xc0045877
	fithaw   = 0xc0045878
)

// Freeze keeps those who write to the file system that is mounted on dir
// waiting, once what is in memory is written. It succeeds if it is frozen
// already. If dir is no mount of a whole file system, the error wraps
// [volume.ErrShared]; the host's root is never frozen.
func Freeze(dir string) error {
	own, err := Mounted(dir)
	if err == nil && !own {
		err = volume.ErrShared
	}
	if err != nil {
		return fmt.Errorf("freeze %s: %w", dir, err)
	}
	return freezing(dir, "freeze", fifreeze, unix.EBUSY)
}

// Thaw ends what Freeze began. It succeeds if nothing is frozen.
func Thaw(dir string) error {
	own, err := Mounted(dir)
	if err != nil || !own {
		return err
	}
	return freezing(dir, "thaw", fithaw, unix.EINVAL)
}

func freezing(dir, what string, request uint, already error) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), request, 0); err != nil && !errors.Is(err, already) {
		return &os.PathError{Op: what, Path: dir, Err: err}
	}
	return nil
}

// Mounted reports whether dir is where a whole file system is mounted that is
// not the host's root.
func Mounted(dir string) (bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, err
	}
	if dir, err = filepath.Abs(dir); err != nil || dir == "/" {
		return false, err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	defer f.Close()
	found, device, root := false, "", ""
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		if at := unescape(fields[4]); at == dir {
			found, device = fields[3] == "/", fields[2] // the last one is on top
		} else if at == "/" {
			root = fields[2]
		}
	}
	return found && device != root, nil
}

// unescape reads the kernel's octal escapes of a path.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Exists reports whether there is something at path, a link or not.
func Exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Usage returns how many bytes of the disk the tree at path takes, as du(1)
// does. What goes while it looks is not counted.
func Usage(ctx context.Context, path string) (used uint64, err error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err = filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		var s unix.Stat_t
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = unix.Lstat(p, &s)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.Nlink > 1 && s.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[inode{s.Dev, s.Ino}] {
				return nil
			}
			seen[inode{s.Dev, s.Ino}] = true
		}
		used += uint64(s.Blocks) * 512
		return nil
	})
	return used, err
}
