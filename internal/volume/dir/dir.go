// Package dir keeps volumes as plain directories, on any file system.
//
// A snapshot is a copy. Files that did not change since the snapshot before it
// are shared with it, by hard links, which is safe because neither changes any
// more; where files can share blocks, the rest is not copied either. So an
// increment is found without reading what is shared.
//
// Whether a file is unchanged is told by its inode and the time of its last
// change, which nobody can set: see origin. A copy is not of one moment: who
// must have that stops the writers, or uses btrfs. Two passes make the second,
// which finds little to do, a short one.
package dir

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/fsys"
)

// A Backend keeps the volumes of one pool. It implements [volume.Backend].
type Backend struct {
	volume.Layout
	reflink bool
}

// Open returns the back-end of the pool at root. With reflink, files share their
// blocks where they are equal; the file system must be able to.
func Open(root string, reflink bool) Backend { return Backend{volume.Layout(root), reflink} }

// Kind implements [volume.Backend].
func (b Backend) Kind() string {
	if b.reflink {
		return fsys.Reflink
	}
	return fsys.Dir
}

// Create implements [volume.Backend].
func (b Backend) Create(ctx context.Context, name string, size uint64) error {
	if err := b.vacant(ctx, name, size); err != nil {
		return err
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	partial := b.Partial(name)
	err := b.partial(name, partial, &u)
	if err == nil {
		err = os.Mkdir(partial, 0o755)
	}
	if err == nil {
		err = os.Chmod(partial, 0o755) // whatever umask we have
	}
	if err == nil {
		err = b.commit(partial, b.Path(name))
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	u.Commit()
	return nil
}

// vacant returns nil if a volume of that name and size can be made.
func (b Backend) vacant(ctx context.Context, name string, size uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if size != 0 {
		return b.sized(name, size)
	}
	there, err := fsys.Exists(b.Path(name))
	if err == nil && there {
		err = fmt.Errorf("volume %q exists: %w", name, bowline.ErrConflict)
	}
	return err
}

// sized returns the error for a size.
func (b Backend) sized(name string, size uint64) error {
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("volume %q: size=%d: a pool of kind %s cannot limit sizes; want none, or a pool on btrfs", name, size, b.Kind()))
}

// partial clears p, where something is to be made, and pushes what takes it away
// again, with the directory of the volume if there was none.
//
// It is where what is made will be, or beside it: some file systems change the
// time of a directory that goes to another one.
func (b Backend) partial(name, p string, u *undo.Stack) error {
	err := os.Mkdir(b.Volume(name), 0o700)
	if err == nil {
		u.Push("remove "+b.Volume(name), func(context.Context) error { return os.RemoveAll(b.Volume(name)) })
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	u.Push("remove "+p, func(context.Context) error { return os.RemoveAll(p) })
	return os.RemoveAll(p)
}

// partialSnapshot is where one is made.
func (b Backend) partialSnapshot(name string) string { return b.SnapshotDir(name, ".partial") }

// commit has what was made appear, whole even after a power cut.
func (b Backend) commit(partial, path string) error {
	if err := fsys.Sync(string(b.Layout)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	return fsys.Sync(string(b.Layout))
}

// Delete implements [volume.Backend].
func (b Backend) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return os.RemoveAll(b.Volume(name))
}

// must returns the error for what is not there.
func must(path, what, name string) error {
	there, err := fsys.Exists(path)
	if err == nil && !there {
		err = fmt.Errorf("%s %q: %w", what, name, bowline.ErrUnknown)
	}
	return err
}

// Snapshot implements [volume.Backend].
func (b Backend) Snapshot(ctx context.Context, name, snap string) (volume.Snapshot, error) {
	var none volume.Snapshot
	if err := must(b.Path(name), "volume", name); err != nil {
		return none, err
	}
	if there, err := fsys.Exists(b.SnapshotDir(name, snap)); err != nil || there {
		return none, errors.Join(err, fmt.Errorf("snapshot %q of volume %q exists: %w", snap, name, bowline.ErrConflict))
	}
	all, err := b.records(name)
	if err != nil {
		return none, err
	}
	base := ""
	if len(all) > 0 {
		base = b.SnapshotDir(name, all[len(all)-1].Name)
	}
	var u undo.Stack // the volume is there, so only what is partial goes
	defer u.Rollback(ctx)
	first, second := b.Partial(name), b.partialSnapshot(name)
	if err := errors.Join(b.partial(name, first, &u), b.partial(name, second, &u), os.MkdirAll(b.SnapshotsDir(name), 0o700)); err != nil {
		return none, err
	}
	if err := b.copy(ctx, b.Path(name), base, first, true); err != nil {
		return none, fmt.Errorf("snapshot %q of volume %q: %w", snap, name, err)
	}
	if err := b.copy(ctx, b.Path(name), first, second, true); err != nil {
		return none, fmt.Errorf("snapshot %q of volume %q: %w", snap, name, err)
	}
	var id [16]byte
	rand.Read(id[:])
	s := volume.Snapshot{Name: snap, ID: volume.ID(hex.EncodeToString(id[:])), Created: time.Now().UTC()}
	if err := b.keep(name, s, second); err != nil {
		return none, err
	}
	return s, nil
}

// A record is what is known of a snapshot. Their numbers grow.
type record struct {
	volume.Snapshot
	Number uint64 `json:"number"`
}

// records returns those of the snapshots that are there, oldest first.
func (b Backend) records(name string) ([]record, error) {
	entries, err := os.ReadDir(b.SnapshotsDir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []record
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // partial
			continue
		}
		var r record
		text, err := os.ReadFile(b.ID(name, e.Name()))
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot %q of volume %q: %w", e.Name(), name, err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int { return int(int64(a.Number) - int64(b.Number)) })
	return all, err
}

// keep makes the directory a snapshot of the volume.
func (b Backend) keep(name string, s volume.Snapshot, made string) error {
	all, err := b.records(name)
	if err != nil {
		return err
	}
	r := record{Snapshot: s, Number: 1}
	if len(all) > 0 {
		r.Number = all[len(all)-1].Number + 1
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	file := b.ID(name, s.Name) // a snapshot without it cannot be; it without a snapshot is nothing
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	return b.commit(made, b.SnapshotDir(name, s.Name))
}

// DeleteSnapshot implements [volume.Backend].
func (b Backend) DeleteSnapshot(ctx context.Context, name, snap string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if there, err := fsys.Exists(b.SnapshotDir(name, snap)); err != nil || !there {
		return err
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	partial := b.partialSnapshot(name)
	if err := b.partial(name, partial, &u); err != nil {
		return err
	}
	// Out of sight in one step, for removing takes many.
	if err := os.Rename(b.SnapshotDir(name, snap), partial); err != nil {
		return err
	}
	return os.Remove(b.ID(name, snap))
}

// Snapshots implements [volume.Backend].
func (b Backend) Snapshots(ctx context.Context, name string) ([]volume.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := b.records(name)
	var ss []volume.Snapshot
	for _, r := range all {
		ss = append(ss, r.Snapshot)
	}
	return ss, err
}

// Rollback implements [volume.Backend].
func (b Backend) Rollback(ctx context.Context, name, snap string) error {
	if err := must(b.SnapshotDir(name, snap), "snapshot", name+"@"+snap); err != nil {
		return err
	}
	return b.become(ctx, b.SnapshotDir(name, snap), name)
}

// Clone implements [volume.Backend].
func (b Backend) Clone(ctx context.Context, from, snap, to string, size uint64) error {
	if err := must(b.SnapshotDir(from, snap), "snapshot", from+"@"+snap); err != nil {
		return err
	}
	if err := b.vacant(ctx, to, size); err != nil {
		return err
	}
	return b.become(ctx, b.SnapshotDir(from, snap), to)
}
