// Package pool keeps volumes on record: who made them, how large they may be, and
// who has them mounted. It chooses the back-end of a pool, and calls it under a
// lock per volume.
//
// A volume's record is written before anything of it is made, and erased after
// all of it is gone. One that is not ready was cut short by a kill, and is
// cleared by whoever comes across it next. A directory becomes a pool only when
// it is empty, and bears a mark from then on: in what is not marked, nothing is
// removed.
package pool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/volume"
	"github.com/bowline-net/bowline/internal/volume/btrfs"
	"github.com/bowline-net/bowline/internal/volume/dir"
	"github.com/bowline-net/bowline/internal/volume/fsys"
)

// A Pool is a directory of volumes, with their records.
type Pool struct {
	Dir     string
	backend volume.Backend
	store   state.Store
	host    string
}

// mark is the file that a pool is known by.
const mark = ".bowline-pool"

// DefaultDir returns where the pool is unless somebody says otherwise:
// /var/lib/bowline/pool, or below $BOWLINE_LIB_DIR.
func DefaultDir() string { return state.Lib("pool").Dir }

// store returns the records of the pool at dir.
func store(dir string) state.Store { return state.Lib("volumes", state.Key(dir)) }

// Open opens the pool at dir, an absolute path. It mounts the image if it has
// one, and makes an empty directory a pool. The error wraps [bowline.ErrConflict]
// if there is something else.
func Open(ctx context.Context, dirname string) (*Pool, error) {
	if !filepath.IsAbs(dirname) {
		return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("pool %q: want an absolute path", dirname))
	}
	p := &Pool{Dir: filepath.Clean(dirname), store: store(filepath.Clean(dirname))}
	if err := p.mountImage(ctx); err != nil {
		return nil, fmt.Errorf("pool %s: %w", p.Dir, err)
	}
	if err := p.claim(); err != nil {
		return nil, fmt.Errorf("pool %s: %w", p.Dir, err)
	}
	kind, err := fsys.Kind(p.Dir)
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", p.Dir, err)
	}
	if p.host, err = os.Hostname(); err != nil {
		return nil, err
	}
	switch kind {
	case fsys.Btrfs:
		p.backend = btrfs.Open(p.Dir)
	default:
		p.backend = dir.Open(p.Dir, kind == fsys.Reflink)
	}
	return p, nil
}

// Kind returns the word for what keeps the volumes.
func (p *Pool) Kind() string { return p.backend.Kind() }

// claim makes sure that the directory is a pool.
func (p *Pool) claim() error {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return err
	}
	there, err := fsys.Exists(filepath.Join(p.Dir, mark))
	if err != nil || there {
		return err
	}
	if err := vacant(p.Dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.Dir, mark), []byte("Volumes of Bowline. All that is in this directory is its own.\n"), 0o600)
}

// vacant returns the error unless the directory is empty.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" && e.Name() != mark {
			return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("it holds %q and is no pool: want an empty directory", e.Name()))
		}
	}
	return nil
}

// Options are what a volume is made with.
type Options struct {
	Size   uint64            `json:"size,omitempty"`
	From   string            `json:"from,omitempty"`  // VOLUME@SNAPSHOT
	Clone  string            `json:"clone,omitempty"` // VOLUME, as it is now
	Labels map[string]string `json:"labels,omitempty"`
}

// A record is what is kept of a volume.
type record struct {
	volume.Volume
	Options Options `json:"options"`
	Ready   bool    `json:"ready"`
	// Mounts are the IDs that engines gave when they mounted it, of that boot.
	Mounts []string `json:"mounts,omitempty"`
	BootID string   `json:"bootID,omitempty"`
}

// lock keeps others from the volume, and reads its record. One that was cut
// short is cleared first.
func (p *Pool) lock(ctx context.Context, name string) (r record, unlock func(), err error) {
	if err := volume.CheckName("volume", name); err != nil {
		return r, nil, err
	}
	if unlock, err = p.store.Lock(name); err != nil {
		return r, nil, err
	}
	r, err = p.read(ctx, name)
	if err == nil && !r.Ready {
		if err = p.clear(ctx, r); err == nil {
			err = unknown(name)
		}
	}
	if err != nil && !errors.Is(err, bowline.ErrUnknown) {
		unlock()
		return r, nil, err
	}
	return r, unlock, err
}

// use is lock for a volume that must be there. f gets its record.
func (p *Pool) use(ctx context.Context, name string, f func(r *record) error) error {
	r, unlock, err := p.lock(ctx, name)
	if unlock != nil {
		defer unlock()
	}
	if err != nil {
		return err
	}
	return f(&r)
}

func unknown(name string) error {
	return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("volume %q: not found", name))
}

// read returns the record; the mounts of an earlier boot are gone.
func (p *Pool) read(ctx context.Context, name string) (record, error) {
	var r record
	err := p.store.Get(ctx, key(name), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, unknown(name)
	}
	if r.BootID != state.BootID() {
		r.Mounts, r.BootID = nil, state.BootID()
	}
	return r, err
}

func (p *Pool) write(ctx context.Context, r record) error { return p.store.Put(ctx, key(r.Name), r) }

// erase takes away what there is of a volume, then its record.
func (p *Pool) erase(ctx context.Context, name string) error {
	if err := p.backend.Delete(ctx, name); err != nil {
		return err
	}
	return p.store.Delete(ctx, key(name))
}

// clear takes away what was cut short, with what it left in another volume.
func (p *Pool) clear(ctx context.Context, r record) error {
	if from := r.Options.Clone; from != "" {
		of, err := p.read(ctx, from)
		if err == nil && of.Ready {
			err = p.use(ctx, from, func(*record) error { return p.backend.DeleteSnapshot(ctx, from, passing(r.Name)) })
		}
		if err != nil && !errors.Is(err, bowline.ErrUnknown) {
			return err
		}
	}
	return p.erase(ctx, r.Name)
}

// key is the name of a volume's record.
func key(name string) string { return state.Key("v-" + name) }

// names returns those of all volumes on record, sorted.
func (p *Pool) names(ctx context.Context) ([]string, error) {
	keys, err := p.store.List(ctx, "")
	var names []string
	for _, k := range keys {
		if name, ok := strings.CutPrefix(k, "v-"); ok {
			names = append(names, name)
		}
	}
	return names, err
}

// Settle clears all that was cut short.
func (p *Pool) Settle(ctx context.Context) error {
	names, err := p.names(ctx)
	for _, name := range names {
		uerr := p.use(ctx, name, func(*record) error { return nil })
		if !errors.Is(uerr, bowline.ErrUnknown) {
			err = errors.Join(err, uerr)
		}
	}
	return err
}
