// Package btrfs keeps volumes as subvolumes of one btrfs.
//
// Snapshots and clones are those of the file system, sizes are its quotas, and
// what is sent is its own stream, with compressed extents as they are. The
// stream is read by us and not by btrfs receive: that one trusts its paths, finds
// its base anywhere in the file system, and would be a program to install. The
// package needs nothing but the kernel. It has its own ioctls, for the libraries
// that there are know no second version of the stream, or need cgo.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/fsys"
)

// A Backend keeps the volumes of one pool. It implements [volume.Backend].
type Backend struct{ volume.Layout }

// Open returns the back-end of the pool at root, a directory on btrfs.
func Open(root string) Backend { return Backend{volume.Layout(root)} }

// Kind implements [volume.Backend].
func (b Backend) Kind() string { return fsys.Btrfs }

// Create implements [volume.Backend].
func (b Backend) Create(ctx context.Context, name string, size uint64) error {
	return b.make(ctx, name, size, "")
}

// Clone implements [volume.Backend].
func (b Backend) Clone(ctx context.Context, from, snap, to string, size uint64) error {
	if err := b.must(b.SnapshotDir(from, snap), "snapshot", from+"@"+snap); err != nil {
		return err
	}
	return b.make(ctx, to, size, b.SnapshotDir(from, snap))
}

// make makes a volume, empty or of a snapshot.
func (b Backend) make(ctx context.Context, name string, size uint64, from string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if there, err := fsys.Exists(b.Path(name)); err != nil || there {
		return errors.Join(err, fmt.Errorf("volume %q exists: %w", name, bowline.ErrConflict))
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	if err := b.room(name, &u); err != nil {
		return err
	}
	partial, err := b.partial(b.Partial(name), &u)
	if err != nil {
		return err
	}
	if from == "" {
		err = createSubvolume(partial)
		if err == nil {
			err = os.Chmod(partial, 0o755) // whatever umask we have
		}
	} else {
		err = b.snapshot(from, partial, 0)
	}
	if err == nil && size != 0 {
		err = b.limit(name, partial, size)
	}
	if err == nil {
		err = os.Rename(partial, b.Path(name))
	}
	if err == nil {
		err = fsys.Sync(string(b.Layout))
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	u.Commit()
	return nil
}

// room makes the directory of a volume, and what takes it away if there was none.
func (b Backend) room(name string, u *undo.Stack) error {
	err := os.Mkdir(b.Volume(name), 0o700)
	if err == nil {
		u.Push("remove "+b.Volume(name), func(ctx context.Context) error { return b.Delete(ctx, name) })
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// partial returns where a subvolume can be made, which is taken away with u.
func (b Backend) partial(path string, u *undo.Stack) (string, error) {
	u.Push("remove "+path, func(context.Context) error { return remove(path) })
	return path, remove(path)
}

// snapshot makes path a snapshot of the subvolume at from.
func (b Backend) snapshot(from, path string, flags uint64) error {
	f, err := openDir(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return createSnapshot(f, path, flags)
}

// must returns the error for what is not there.
func (b Backend) must(path, what, name string) error {
	there, err := fsys.Exists(path)
	if err == nil && !there {
		err = fmt.Errorf("%s %q: %w", what, name, bowline.ErrUnknown)
	}
	return err
}

// rootInode is that of every subvolume's root.
const rootInode = 256

func isSubvolume(path string) (bool, error) {
	var s unix.Stat_t
	err := unix.Lstat(path, &s)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil && s.Ino == rootInode && s.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// remove removes a subvolume, with those that containers made in it. It succeeds
// if there is none.
func remove(path string) error {
	is, err := isSubvolume(path)
	if err != nil {
		return err
	}
	if !is {
		return os.RemoveAll(path)
	}
	err = destroy(path)
	if !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	var inner []string
	err = filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && p != path {
			if is, _ := isSubvolume(p); is {
				inner = append(inner, p)
			}
		}
		return err
	})
	slices.Reverse(inner) // the innermost first
	for _, p := range inner {
		err = errors.Join(err, destroy(p))
	}
	return errors.Join(err, destroy(path))
}

// Delete implements [volume.Backend].
func (b Backend) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if there, err := fsys.Exists(b.Volume(name)); err != nil || !there {
		return err
	}
	entries, err := os.ReadDir(b.SnapshotsDir(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = errors.Join(remove(b.Path(name)), remove(b.Partial(name)))
	for _, e := range entries {
		err = errors.Join(err, remove(b.SnapshotDir(name, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	return os.RemoveAll(b.Volume(name))
}

// Snapshot implements [volume.Backend].
func (b Backend) Snapshot(ctx context.Context, name, snap string) (volume.Snapshot, error) {
	var none volume.Snapshot
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := b.must(b.Path(name), "volume", name); err != nil {
		return none, err
	}
	if err := os.MkdirAll(b.SnapshotsDir(name), 0o700); err != nil {
		return none, err
	}
	path := b.SnapshotDir(name, snap)
	err := b.snapshot(b.Path(name), path, readOnly)
	if errors.Is(err, unix.EEXIST) {
		return none, fmt.Errorf("snapshot %q of volume %q exists: %w", snap, name, bowline.ErrConflict)
	}
	if err != nil {
		return none, err
	}
	s, _, err := known(path)
	return s, err
}

// known returns what the file system knows of a snapshot, and its number.
func known(path string) (volume.Snapshot, uint64, error) {
	f, err := openDir(path)
	if err != nil {
		return volume.Snapshot{}, 0, err
	}
	defer f.Close()
	s, err := info(f)
	if err != nil {
		return volume.Snapshot{}, 0, err
	}
	return volume.Snapshot{Name: filepath.Base(path), ID: s.id(), Created: time.Unix(int64(s.otime.sec), int64(s.otime.nsec)).UTC()}, s.treeID, nil
}

// DeleteSnapshot implements [volume.Backend].
func (b Backend) DeleteSnapshot(ctx context.Context, name, snap string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return remove(b.SnapshotDir(name, snap))
}

// Snapshots implements [volume.Backend].
func (b Backend) Snapshots(ctx context.Context, name string) ([]volume.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(b.SnapshotsDir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []volume.Snapshot
	numbers := map[volume.ID]uint64{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // partial
			continue
		}
		s, number, err := known(b.SnapshotDir(name, e.Name()))
		if err != nil {
			return nil, err
		}
		numbers[s.ID] = number
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b volume.Snapshot) int { return int(int64(numbers[a.ID]) - int64(numbers[b.ID])) })
	return all, nil
}

// Rollback implements [volume.Backend].
func (b Backend) Rollback(ctx context.Context, name, snap string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.must(b.SnapshotDir(name, snap), "snapshot", name+"@"+snap); err != nil {
		return err
	}
	there, err := fsys.Exists(b.Path(name))
	if err != nil {
		return err
	}
	if !there { // it was only received until now
		return b.make(ctx, name, 0, b.SnapshotDir(name, snap))
	}
	var u undo.Stack // takes away what the volume was, too
	defer u.Rollback(ctx)
	partial, err := b.partial(b.Partial(name), &u)
	if err != nil {
		return err
	}
	was, err := b.Usage(ctx, name)
	if err == nil {
		err = b.snapshot(b.SnapshotDir(name, snap), partial, 0)
	}
	if err == nil && was.Size != 0 {
		err = b.limit(name, partial, was.Size)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, partial, unix.AT_FDCWD, b.Path(name), unix.RENAME_EXCHANGE)
	}
	if err == nil {
		err = fsys.Sync(string(b.Layout))
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	return nil
}

// Send implements [volume.Backend].
func (b Backend) Send(ctx context.Context, name string, d volume.Delta, w io.Writer) error {
	if err := b.send(ctx, name, d, w); err != nil {
		return fmt.Errorf("send %s of volume %q: %w", d, name, err)
	}
	return nil
}

// Freeze implements [volume.Backend].
func (b Backend) Freeze(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fsys.Freeze(string(b.Layout))
}

// Thaw implements [volume.Backend].
func (b Backend) Thaw(context.Context) error { return fsys.Thaw(string(b.Layout)) }
