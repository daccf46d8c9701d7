package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// GC releases what belongs to owners that keep does not want, and returns it.
// It also mends what kills and damage left. Errors do not stop it; they come
// joined, those of damaged records wrapping [bowline.ErrDamaged].
func (s *Store) GC(ctx context.Context, keep func(Owner) bool) (released []Allocation, err error) {
	l, ok, err := s.lock(ctx, false)
	if err != nil || !ok {
		return nil, err
	}
	defer l.unlock()
	recs, err := l.records(ctx)
	errs := []error{err}
	known := map[Owner]record{}
	for _, rec := range recs {
		if keep(rec.owner()) {
			known[rec.owner()] = rec
			continue
		}
		if err := l.drop(ctx, rec, true); err != nil {
			errs = append(errs, err)
			continue
		}
		released = append(released, rec.allocations()...)
	}
	lost, err := l.mend(ctx, known, keep)
	released, errs = append(released, lost...), append(errs, err, l.mendQuarantine(time.Now()), l.tidy(known))
	return released, s.wrap(errors.Join(errs...))
}

// mend deals with addresses whose owner has no record, because it was damaged:
// a new record if the owner is to be kept, else they are released.
func (l *session) mend(ctx context.Context, known map[Owner]record, keep func(Owner) bool) (released []Allocation, err error) {
	addrs, err := l.taken()
	if err != nil {
		return nil, err
	}
	listed := map[netip.Addr]Owner{}
	for o, rec := range known {
		for _, h := range rec.Addrs {
			listed[h.Addr.Addr()] = o
		}
	}
	var errs []error
	anew := map[Owner]record{}
	for _, a := range addrs {
		if _, ok := listed[a]; ok {
			continue
		}
		o, ok, err := l.holder(a)
		if err != nil || !ok || o.isQuarantine() {
			errs = append(errs, err)
			continue
		}
		whole := netip.PrefixFrom(a, a.BitLen())
		if _, ok := known[o]; !ok && keep(o) {
			rec := anew[o]
			rec.Container, rec.IfName, rec.Created = o.Container, o.IfName, time.Now().UTC()
			rec.Addrs = append(rec.Addrs, held{Addr: whole})
			anew[o] = rec
			continue
		}
		if _, err := l.give(ctx, a, o); err != nil {
			errs = append(errs, err)
			continue
		}
		released = append(released, Allocation{Addr: whole, Owner: o})
	}
	for o, rec := range anew {
		errs = append(errs, l.st.Put(ctx, recordName(o), rec))
	}
	return released, errors.Join(errs...)
}

// unused is how long a hint may lie about before it counts as left over from
// ranges that the network had once.
const unused = 24 * time.Hour

// tidy removes what nobody will look at again: files of killed writers, hints
// of former ranges, and if there are many, names that no hint remembers. With
// the lock held nobody is writing any file.
func (l *session) tidy(known map[Owner]record) error {
	errs := []error{l.st.Sweep("", 0)}
	inUse := map[string]bool{}
	names := map[uint64]bool{}
	for _, rec := range known {
		names[nameKey(rec.Name)] = true
		for _, h := range rec.Addrs {
			inUse[h.Space] = true
		}
	}
	files, err := os.ReadDir(l.st.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		key, ok := strings.CutPrefix(f.Name(), hintFiles)
		if !ok {
			continue
		}
		if info, err := f.Info(); err == nil && !inUse[key] && time.Since(info.ModTime()) > unused {
			errs = append(errs, l.removeLink(f.Name()))
			continue
		}
		if h, _, err := l.hint(key, 0, false); err == nil && h != nil {
			es, err := h.entries(h.head, h.tail)
			errs = append(errs, err)
			for _, e := range es {
				names[e.holder] = true
			}
		}
	}
	links, _ := os.ReadDir(filepath.Join(l.st.Dir, namesDir))
	if len(links) <= ringLen { // few enough to keep those too that only kills left
		return errors.Join(errs...)
	}
	for _, f := range links {
		if key, err := strconv.ParseUint(f.Name(), 16, 64); err != nil || !names[key] {
			errs = append(errs, l.removeLink(namesDir+"/"+f.Name()))
		}
	}
	return errors.Join(errs...)
}

// Reclaim releases what belongs to owners whose namespace is gone, and returns
// it. Allocate does the same when addresses run short.
//
// An owner whose record is damaged is not touched, for it may live: Release
// and GC find what it holds.
func (s *Store) Reclaim(ctx context.Context) ([]Allocation, error) {
	l, ok, err := s.lock(ctx, false)
	if err != nil || !ok {
		return nil, err
	}
	defer l.unlock()
	as, err := l.reclaim(ctx)
	return as, s.wrap(err)
}

func (l *session) reclaim(ctx context.Context) ([]Allocation, error) {
	recs, err := l.records(ctx)
	errs := []error{err, l.mendQuarantine(time.Now())}
	var released []Allocation
	for _, rec := range recs {
		if !dead(rec) {
			continue
		}
		if err := l.drop(ctx, rec, true); err != nil {
			errs = append(errs, err)
			continue
		}
		released = append(released, rec.allocations()...)
	}
	return released, errors.Join(errs...)
}

// Remove makes the network's store disappear, and what is in quarantine with
// it. The error wraps [bowline.ErrConflict] if addresses are taken. It succeeds
// if there is none.
func (s *Store) Remove(ctx context.Context) error {
	l, ok, err := s.lock(ctx, false)
	if err != nil || !ok {
		return err
	}
	defer l.unlock()
	recs, err := l.records(ctx)
	var damaged *state.DamagedError
	if err != nil && !errors.As(err, &damaged) {
		return s.wrap(err)
	}
	addrs, err := l.owned()
	if err != nil {
		return s.wrap(err)
	}
	if len(recs)+len(addrs) > 0 {
		return s.wrap(bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("%d addresses are still taken by %d owners", len(addrs), len(recs))))
	}
	if err := os.RemoveAll(s.st.Dir); err != nil {
		return s.wrap(err)
	}
	// The directories above, of the boot and of all, go with the last network.
	boot := filepath.Dir(s.st.Dir)
	if os.Remove(boot) == nil {
		_ = os.Remove(filepath.Dir(boot))
	}
	return nil
}

// Networks returns the names of the networks that have a store, sorted by
// their directories.
func Networks(ctx context.Context) ([]string, error) {
	boot := state.Run("ipam", bootDir())
	dirs, err := boot.Dirs(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("ipam: %w", err)
	}
	var names []string
	for _, d := range dirs {
		if name, err := os.Readlink(filepath.Join(boot.Dir, d, networkLink)); err == nil {
			names = append(names, name)
		} else if state.Key(d) == d {
			names = append(names, d)
		}
	}
	return names, nil
}
