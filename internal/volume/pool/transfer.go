package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/frame"
)

// Send writes a snapshot of the volume to w: what is new since the snapshot
// base, or all of it without one.
func (p *Pool) Send(ctx context.Context, name, snap, base string, w io.Writer) error {
	return p.use(ctx, name, func(r *record) error {
		all, err := p.backend.Snapshots(ctx, name)
		if err != nil {
			return err
		}
		// As planned for a side that has the base and nothing else.
		from, to := volume.Replica{Host: p.host, Snapshots: all}, volume.Replica{Host: "the other side"}
		if base != "" {
			i := slices.IndexFunc(all, func(s volume.Snapshot) bool { return s.Name == base })
			if i < 0 {
				return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("snapshot %q is not there: %s", base, from))
			}
			to.Snapshots = all[i : i+1]
		}
		d, ok, err := volume.Plan(from, to, snap)
		if err == nil && !ok {
			err = bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("snapshot %q is its own base: want an older one", snap))
		}
		if err == nil && base != "" && d.Base == nil {
			err = bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("snapshot %q is not older than %q: want an older base", base, snap))
		}
		if err != nil {
			return err
		}
		f, err := frame.NewWriter(w, frame.Head{Kind: p.Kind(), Volume: name, Delta: d, Size: r.Size})
		if err != nil {
			return err
		}
		if err := p.backend.Send(ctx, name, d, f); err != nil {
			return err
		}
		return f.Close()
	})
}

// Receive reads what Send wrote and keeps it as a snapshot of the volume name,
// which is made of it if there is none, or else stays as it is. An empty name is
// that of the stream.
func (p *Pool) Receive(ctx context.Context, name string, from io.Reader) (volume.Snapshot, error) {
	r, h, err := frame.NewReader(from)
	if err != nil {
		return volume.Snapshot{}, err
	}
	if name == "" {
		name = h.Volume
	}
	if err := p.fits(h); err != nil {
		return volume.Snapshot{}, err
	}
	_, unlock, err := p.lock(ctx, name)
	if unlock != nil {
		defer unlock()
	}
	if err == nil {
		return h.Delta.To, p.backend.Receive(ctx, name, h.Delta, r)
	}
	if !errors.Is(err, bowline.ErrUnknown) || unlock == nil {
		return volume.Snapshot{}, err
	}
	rec := record{Volume: volume.Volume{Name: name, Owner: volume.Owner{Host: p.host, Epoch: 1}, Created: time.Now().UTC().Truncate(time.Second)}}
	var u undo.Stack
	defer u.Rollback(ctx)
	if err := p.write(ctx, rec); err != nil {
		return volume.Snapshot{}, err
	}
	u.Push("erase volume "+name, func(ctx context.Context) error { return p.erase(ctx, name) })
	if err := p.backend.Receive(ctx, name, h.Delta, r); err != nil {
		return volume.Snapshot{}, err
	}
	if err := p.backend.Rollback(ctx, name, h.Delta.To.Name); err != nil {
		return volume.Snapshot{}, err
	}
	rec.Ready = true
	if err := p.write(ctx, rec); err != nil {
		return volume.Snapshot{}, err
	}
	u.Commit()
	return h.Delta.To, nil
}

// fits returns the error unless this pool can receive a stream with that head,
// which anybody may have written.
func (p *Pool) fits(h frame.Head) error {
	ours, theirs := p.Kind() == "btrfs", h.Kind == "btrfs"
	if ours != theirs {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("stream of volume %.80q is of a pool of kind %.20q, and this one is of kind %s: want a pool of that kind", h.Volume, h.Kind, p.Kind()))
	}
	err := errors.Join(volume.CheckName("volume", h.Volume), volume.CheckName("snapshot", h.Delta.To.Name), checkID(h.Delta.To.ID))
	if h.Delta.Base != nil {
		err = errors.Join(err, volume.CheckName("snapshot", h.Delta.Base.Name), checkID(h.Delta.Base.ID))
	}
	return err
}

func checkID(id volume.ID) error {
	ok := len(id) == 32
	for _, c := range string(id) {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	}
	if !ok {
		return fmt.Errorf("%w: a snapshot has the ID %.40q", volume.ErrStream, id)
	}
	return nil
}
