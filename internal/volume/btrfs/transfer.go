package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/fsys"
	"github.com/bowline-net/bowline/internal/volume/tree"
)

// find opens the very snapshot of a volume, and returns its tree.
func (b Backend) find(name string, want volume.Snapshot) (*os.File, uint64, error) {
	unknown := fmt.Errorf("snapshot %q (%.8s) of volume %q: %w", want.Name, want.ID, name, bowline.ErrUnknown)
	if err := b.must(b.SnapshotDir(name, want.Name), "snapshot", name+"@"+want.Name); err != nil {
		return nil, 0, err
	}
	s, number, err := known(b.SnapshotDir(name, want.Name))
	if err != nil {
		return nil, 0, err
	}
	if s.ID != want.ID {
		return nil, 0, unknown
	}
	f, err := openDir(b.SnapshotDir(name, want.Name))
	return f, number, err
}

// send has the kernel write the stream, and passes it on command by command.
func (b Backend) send(ctx context.Context, name string, d volume.Delta, w io.Writer) error {
	to, _, err := b.find(name, d.To)
	if err != nil {
		return err
	}
	defer to.Close()
	base := uint64(0)
	if d.Base != nil {
		was, number, err := b.find(name, *d.Base)
		if err != nil {
			return err
		}
		was.Close()
		base = number
	}
	err = pass(ctx, to, base, 2, w)
	if errors.Is(err, errOld) {
		err = pass(ctx, to, base, 1, w)
	}
	return err
}

// errOld says that the kernel knows no such version of the stream.
var errOld = errors.New("version of the stream is not known to the kernel")

// pass sends one version of a stream to w.
func pass(ctx context.Context, f *os.File, base uint64, version uint32, w io.Writer) error {
	r, pipe, err := os.Pipe()
	if err != nil {
		return err
	}
	_, _ = unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, 1<<20) // only faster
	sent := make(chan error, 1)
	go func() {
		err := send(f, pipe, base, version)
		pipe.Close()
		sent <- err
	}()
	read := commands(ctx, r, w)
	r.Close() // ends the sender, if it has not ended
	err = <-sent
	switch {
	case version > 1 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)):
		return errOld
	case err != nil && !errors.Is(err, unix.EPIPE):
		return fmt.Errorf("kernel: %w", err)
	}
	return read
}

// commands copies a stream, unless there is something in it that cannot be sent.
func commands(ctx context.Context, r io.Reader, w io.Writer) error {
	s, err := newReader(r)
	if err != nil {
		return err
	}
	if _, err := w.Write(s.head); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := s.next()
		if err != nil {
			return err
		}
		if c.kind == cmdMksock {
			return tree.ErrSocket
		}
		if _, err := w.Write(c.raw); err != nil {
			return err
		}
		if c.kind == cmdEnd {
			return s.end()
		}
	}
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
	if err := b.room(name, &u); err != nil {
		return err
	}
	if err := os.MkdirAll(b.SnapshotsDir(name), 0o700); err != nil {
		return err
	}
	// Beside where it will be: what is read-only does not go to another directory.
	partial, err := b.partial(b.SnapshotDir(name, ".partial"), &u)
	if err != nil {
		return err
	}
	if err := b.receive(ctx, r, d, base, partial); err != nil {
		return fmt.Errorf("receive %s of volume %q: %w", d, name, err)
	}
	if err := os.Rename(partial, b.SnapshotDir(name, d.To.Name)); err != nil {
		return err
	}
	u.Commit()
	return fsys.Sync(string(b.Layout))
}

func (b Backend) receive(ctx context.Context, r io.Reader, d volume.Delta, base, partial string) error {
	rec, err := receive(ctx, r, d, base, partial)
	defer rec.close()
	if err != nil {
		return err
	}
	if err := setReceived(rec.root, rec.uuid, rec.trans); err != nil {
		return err
	}
	if err := setReadOnly(rec.root); err != nil {
		return err
	}
	return fsys.Sync(partial)
}

// Usage implements [volume.Backend]. With a size, what is used is as of the last
// time that the file system wrote out what it had.
func (b Backend) Usage(ctx context.Context, name string) (volume.Usage, error) {
	if err := b.must(b.Path(name), "volume", name); err != nil {
		return volume.Usage{}, err
	}
	f, err := openDir(b.Path(name))
	if err != nil {
		return volume.Usage{}, err
	}
	defer f.Close()
	s, err := info(f)
	if err != nil {
		return volume.Usage{}, err
	}
	used, limit, err := quota(f, s.treeID)
	if errors.Is(err, unix.ENOENT) { // nobody counts
		used, err = fsys.Usage(ctx, b.Path(name))
	}
	return volume.Usage{Used: used, Size: limit}, err
}

// Resize implements [volume.Backend].
func (b Backend) Resize(ctx context.Context, name string, size uint64) error {
	if err := b.must(b.Path(name), "volume", name); err != nil {
		return err
	}
	if err := fsys.Sync(b.Path(name)); err != nil { // it counts when it writes
		return err
	}
	u, err := b.Usage(ctx, name)
	if err != nil {
		return err
	}
	if size == 0 && u.Size == 0 {
		return nil
	}
	if size != 0 && u.Used > size {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("volume %q: size=%d: it holds %d bytes, want at least as many", name, size, u.Used))
	}
	return b.limit(name, b.Path(name), size)
}

// limit bounds the subvolume at path.
func (b Backend) limit(name, path string, size uint64) error {
	f, err := openDir(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := info(f)
	if err != nil {
		return err
	}
	if err := enableQuota(f); err != nil {
		return err
	}
	return setLimit(f, s.treeID, size)
}
