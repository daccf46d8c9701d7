package volume

import (
	"context"
	"errors"
	"io"
)

// A Backend keeps the volumes of one pool, a directory. Every method may be
// called again after it was cut short at any moment, and then ends what it
// began; what was half-made is never seen as a volume or a snapshot. Callers
// keep calls for one volume apart; those for different ones may come at once.
//
// Errors wrap [bowline.ErrUnknown] for what is not there, [bowline.ErrConflict]
// for a name that is taken, and [bowline.ErrInvalid] for what the back-end
// cannot do at all. Names have been through [CheckName].
type Backend interface {
	// Kind is the word for it: btrfs, reflink or dir.
	Kind() string
	// Path returns the directory that containers mount.
	Path(name string) string
	// Create makes an empty volume that may hold size bytes; 0: no limit.
	Create(ctx context.Context, name string, size uint64) error
	// Delete removes the volume with all its snapshots. It succeeds if there is none.
	Delete(ctx context.Context, name string) error
	// Snapshot keeps the volume as it is. Where the back-end is not Atomic,
	// what is written meanwhile may be in it or not, each file on its own.
	Snapshot(ctx context.Context, name, snap string) (Snapshot, error)
	// DeleteSnapshot succeeds if there is none.
	DeleteSnapshot(ctx context.Context, name, snap string) error
	// Snapshots are returned oldest first; none if there is no volume.
	Snapshots(ctx context.Context, name string) ([]Snapshot, error)
	// Rollback makes the volume what the snapshot is, in one step; what was
	// written since is gone. Nobody may be using it. A volume that was only
	// received can be mounted from then on.
	Rollback(ctx context.Context, name, snap string) error
	// Clone makes the volume to of a snapshot; both go their own ways.
	Clone(ctx context.Context, from, snap, to string, size uint64) error
	// Send writes the delta to w, in the back-end's own format.
	Send(ctx context.Context, name string, d Delta, w io.Writer) error
	// Receive reads what Send wrote from r, to its end, and keeps it as the
	// snapshot d.To of the volume, which need not be there. Whatever else r
	// holds, and whenever it ends with an error, there is no new snapshot, and
	// nothing outside of it has changed.
	Receive(ctx context.Context, name string, d Delta, r io.Reader) error
	// Usage returns how much the volume holds.
	Usage(ctx context.Context, name string) (Usage, error)
	// Resize changes how much the volume may hold, while it is in use. The
	// error wraps [bowline.ErrInvalid] if it holds more already.
	Resize(ctx context.Context, name string, size uint64) error
	// Freeze writes out what is in memory and keeps those who write to the
	// pool waiting until Thaw. It is for pools on a file system of their own;
	// elsewhere it would stop the host, and the error wraps [ErrShared].
	Freeze(ctx context.Context) error
	// Thaw succeeds if nothing is frozen.
	Thaw(ctx context.Context) error
}

// Usage is how much a volume holds, in bytes.
type Usage struct {
	Used uint64 `json:"used"` // of the volume itself, not of its snapshots
	Size uint64 `json:"size"` // that it may hold; 0: no limit
}

// ErrShared says that a pool is not on a file system of its own.
var ErrShared = errors.New("the pool shares its file system with others")

// ErrStream says that a stream is damaged, cut short or hostile.
var ErrStream = errors.New("not a stream that can be received")
