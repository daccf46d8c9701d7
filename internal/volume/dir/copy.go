package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/fsys"
	"github.com/bowline-net/bowline/internal/volume/tree"
)

// become makes the volume a copy of the directory, in one step.
func (b Backend) become(ctx context.Context, from, name string) error {
	var u undo.Stack
	defer u.Rollback(ctx)
	made := b.Partial(name)
	if err := b.partial(name, made, &u); err != nil {
		return err
	}
	if err := b.copy(ctx, from, "", made, false); err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	there, err := fsys.Exists(b.Path(name))
	if err != nil {
		return err
	}
	if !there {
		err = b.commit(made, b.Path(name))
	} else if err = fsys.Sync(string(b.Layout)); err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, b.Path(name), unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	u.Commit()
	return errors.Join(os.RemoveAll(made), fsys.Sync(string(b.Layout))) // what it was
}

// copy makes the directory to a copy of from. Files that base has unchanged are
// shared with it. Of a live tree, which others may write to meanwhile, it is
// remembered where the files came from.
func (b Backend) copy(ctx context.Context, from, base, to string, live bool) error {
	src, was, dst, err := openAll(from, base, to)
	if err != nil {
		return err
	}
	defer closeAll(src, was, dst)
	a := tree.NewApplier(dst, was)
	defer a.Close()
	a.Reflink = b.reflink
	w := tree.Walker{Sink: a, Live: live}
	if live {
		// What is stored through a mapping changes the time of a file once per
		// write-out only. So all is written out, and only what was last
		// changed before that can be told to be unchanged later.
		before := time.Now().Add(-tick)
		if err := fsys.Sync(string(b.Layout)); err != nil {
			return err
		}
		a.Origin = func(s *unix.Stat_t) []byte { return tree.Origin(s, before) }
		w.Same = tree.SameOrigin
	}
	return w.Walk(ctx, src, was)
}

// tick is more than the kernel's clock for files lags behind.
const tick = 50 * time.Millisecond

// openAll opens directories, and makes to, those that are not empty.
func openAll(from, base, to string) (src, was, dst *os.File, err error) {
	if from != "" {
		src, err = tree.OpenDir(from)
	}
	if err == nil && base != "" {
		was, err = tree.OpenDir(base)
	}
	if err == nil && to != "" {
		if err = os.Mkdir(to, 0o700); err == nil {
			dst, err = tree.OpenDir(to)
		}
	}
	if err != nil {
		closeAll(src, was, dst)
	}
	return src, was, dst, err
}

func closeAll(fs ...*os.File) {
	for _, f := range fs {
		if f != nil {
			f.Close()
		}
	}
}

// Send implements [volume.Backend].
func (b Backend) Send(ctx context.Context, name string, d volume.Delta, w io.Writer) error {
	base := ""
	if d.Base != nil {
		if err := b.has(name, *d.Base); err != nil {
			return err
		}
		base = b.SnapshotDir(name, d.Base.Name)
	}
	if err := b.has(name, d.To); err != nil {
		return err
	}
	src, was, _, err := openAll(b.SnapshotDir(name, d.To.Name), base, "")
	if err != nil {
		return err
	}
	defer closeAll(src, was)
	walker := tree.Walker{Sink: tree.NewEncoder(w), Same: tree.SameInode}
	if err := walker.Walk(ctx, src, was); err != nil {
		return fmt.Errorf("send %s of volume %q: %w", d, name, err)
	}
	return nil
}

// has returns the error unless the volume has that very snapshot.
func (b Backend) has(name string, want volume.Snapshot) error {
	all, err := b.records(name)
	for _, r := range all {
		if r.ID == want.ID && r.Name == want.Name {
			return nil
		}
	}
	return errors.Join(err, fmt.Errorf("snapshot %q (%.8s) of volume %q: %w", want.Name, want.ID, name, bowline.ErrUnknown))
}

// Receive implements [volume.Backend].
func (b Backend) Receive(ctx context.Context, name string, d volume.Delta, r io.Reader) error {
	all, err := b.Snapshots(ctx, name)
	if err != nil {
		return err
	}
	base, err := d.Onto(name, all)
	if err != nil {
		return err
	}
	if base != "" {
		base = b.SnapshotDir(name, base)
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	made := b.partialSnapshot(name)
	if err := errors.Join(b.partial(name, made, &u), os.MkdirAll(b.SnapshotsDir(name), 0o700)); err != nil {
		return err
	}
	if err := b.decode(ctx, r, base, made); err != nil {
		return fmt.Errorf("receive %s of volume %q: %w", d, name, err)
	}
	if err := b.keep(name, d.To, made); err != nil {
		return err
	}
	u.Commit()
	return nil
}

func (b Backend) decode(ctx context.Context, r io.Reader, base, to string) error {
	_, was, dst, err := openAll("", base, to)
	if err != nil {
		return err
	}
	defer closeAll(was, dst)
	a := tree.NewApplier(dst, was)
	defer a.Close()
	a.Reflink = b.reflink
	return tree.Decode(ctx, r, a)
}

// Usage implements [volume.Backend].
func (b Backend) Usage(ctx context.Context, name string) (volume.Usage, error) {
	if err := must(b.Path(name), "volume", name); err != nil {
		return volume.Usage{}, err
	}
	used, err := fsys.Usage(ctx, b.Path(name))
	return volume.Usage{Used: used}, err
}

// Resize implements [volume.Backend].
func (b Backend) Resize(ctx context.Context, name string, size uint64) error {
	if err := must(b.Path(name), "volume", name); err != nil || size == 0 {
		return err
	}
	return b.sized(name, size)
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
