package pool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/internal/volume/fsys"
)

// On a host without btrfs, a pool can be a file with btrfs in it. It is sparse:
// it takes what the volumes take. That there is one is on record, so that it is
// mounted again after a reboot.

// image is the record of such a file.
type image struct {
	Path  string `json:"path"`
	Size  uint64 `json:"size"`
	Ready bool   `json:"ready"` // it has a file system in it
}

// minImage is the smallest that btrfs is made in, with some room, in bytes.
const minImage = 256 << 20

// imageKey is the name of the record.
const imageKey = "image"

func (p *Pool) image(ctx context.Context) (image, error) {
	var i image
	err := p.store.Get(ctx, imageKey, &i)
	return i, err
}

// Init makes the pool at dir of a file beside it, dir.img, of size bytes at most,
// or makes that larger. It succeeds if it is that large. The error wraps
// [bowline.ErrConflict] if there is a pool already, or something else.
func Init(ctx context.Context, dir string, size uint64) error {
	if !filepath.IsAbs(dir) || size < minImage {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("pool %q of %d bytes: want an absolute path and at least %d", dir, size, minImage))
	}
	dir = filepath.Clean(dir)
	p := &Pool{Dir: dir, store: store(dir)}
	unlock, err := p.store.Lock("+image")
	if err != nil {
		return err
	}
	defer unlock()
	i, err := p.image(ctx)
	if err == nil && i.Ready {
		if err := p.mountImage(ctx); err != nil {
			return err
		}
		return p.grow(ctx, i, size)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.makeImage(ctx, image{Path: dir + ".img", Size: size}, err == nil)
}

// makeImage makes the file and mounts it. again: another Init was cut short.
func (p *Pool) makeImage(ctx context.Context, i image, again bool) error {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return err
	}
	if err := vacant(p.Dir); err != nil {
		return fmt.Errorf("pool %s: %w", p.Dir, err)
	}
	if there, err := fsys.Exists(filepath.Join(p.Dir, mark)); err != nil || there {
		return errors.Join(err, fmt.Errorf("pool %s is there already, without an image: %w", p.Dir, bowline.ErrConflict))
	}
	if there, err := fsys.Exists(i.Path); err != nil || there && !again {
		return errors.Join(err, fmt.Errorf("%s exists and is not ours: %w", i.Path, bowline.ErrConflict))
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	if err := p.store.Put(ctx, imageKey, i); err != nil {
		return err
	}
	u.Push("erase image "+i.Path, func(ctx context.Context) error {
		if err := os.Remove(i.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return p.store.Delete(ctx, imageKey)
	})
	if err := os.WriteFile(i.Path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(i.Path, int64(i.Size)); err != nil {
		return err
	}
	if err := run(ctx, "mkfs.btrfs", "-q", i.Path); err != nil {
		return err
	}
	i.Ready = true
	if err := p.store.Put(ctx, imageKey, i); err != nil {
		return err
	}
	if err := p.mountImage(ctx); err != nil {
		return err
	}
	u.Commit()
	return p.claim()
}

// mountImage mounts the image if there is one and it is not mounted.
func (p *Pool) mountImage(ctx context.Context) error {
	i, err := p.image(ctx)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !i.Ready {
		return nil
	}
	if err != nil {
		return err
	}
	unlock, err := p.store.Lock("+mount")
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := fsys.Mounted(p.Dir); err != nil || there {
		return err
	}
	return run(ctx, "mount", "-t", "btrfs", "-o", "loop", i.Path, p.Dir)
}

// grow makes the image larger, while it is mounted.
func (p *Pool) grow(ctx context.Context, i image, size uint64) error {
	if size < i.Size {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("pool %s: size=%d: it has %d, and can only grow", p.Dir, size, i.Size))
	}
	if err := os.Truncate(i.Path, int64(size)); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "losetup", "-n", "-O", "NAME", "-j", i.Path).Output()
	if err != nil {
		return fmt.Errorf("losetup: %w", err)
	}
	for _, device := range strings.Fields(string(out)) {
		if err := run(ctx, "losetup", "-c", device); err != nil {
			return err
		}
	}
	if err := run(ctx, "btrfs", "filesystem", "resize", "max", p.Dir); err != nil {
		return err
	}
	i.Size = size
	return p.store.Put(ctx, imageKey, i)
}

// Undo ends the pool at dir that Init made. The error wraps [bowline.ErrConflict]
// if there are volumes.
func Undo(ctx context.Context, dir string) error {
	dir = filepath.Clean(dir)
	p := &Pool{Dir: dir, store: store(dir)}
	unlock, err := p.store.Lock("+image")
	if err != nil {
		return err
	}
	defer unlock()
	i, err := p.image(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("pool %s has no image of ours", dir))
	}
	if err != nil {
		return err
	}
	if names, err := p.names(ctx); err != nil || len(names) > 0 {
		return errors.Join(err, fmt.Errorf("pool %s holds %d volumes: %w", dir, len(names), bowline.ErrConflict))
	}
	if there, err := fsys.Mounted(dir); err == nil && there {
		if err := unix.Unmount(dir, 0); err != nil {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
	}
	if err := os.Remove(i.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.store.Delete(ctx, imageKey)
}

// run runs a command of the system, found in the directories of root too.
func run(ctx context.Context, name string, args ...string) error {
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if _, err := exec.LookPath(name); err != nil && unix.Access(filepath.Join(dir, name), unix.X_OK) == nil {
			name = filepath.Join(dir, name)
		}
	}
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return bowline.Wrong(bowline.ErrUnavailable, name+" is not installed: want btrfs-progs and util-linux")
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return nil
}
