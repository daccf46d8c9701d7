package ipam

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
)

// Usage counts addresses. Counts beyond 64 bits are math.MaxUint64.
type Usage struct {
	Free    uint64 // owners that could still be served: the least of all sets
	Used    uint64 // addresses taken, of all sets
	Resting uint64 // free ones that were released lately
	Sets    []SetUsage

	Quarantined uint64 // neither free nor used, for others use them
}

// SetUsage is the usage of one set.
type SetUsage struct {
	Ranges              string // such as 10.1.0.2-10.1.0.254
	Size                uint64 // Used + Free + Quarantined
	Used, Free, Resting uint64
	Quarantined         uint64
}

// Usage counts what of c is taken and what is free. It reads the names of all
// taken addresses, so it is not for each ADD.
func (s *Store) Usage(ctx context.Context, c Config) (Usage, error) {
	spaces, err := c.spaces()
	if err != nil {
		return Usage{}, s.wrap(err)
	}
	u := Usage{Free: math.MaxUint64, Sets: newSets(spaces)}
	l, ok, err := s.lock(ctx, false)
	if err != nil {
		return Usage{}, err
	}
	if ok {
		defer l.unlock()
		if err := l.count(spaces, u.Sets); err != nil {
			return Usage{}, s.wrap(err)
		}
	}
	for _, set := range u.Sets {
		u.Free = min(u.Free, set.Free)
		u.Used += set.Used
		u.Resting += set.Resting
		u.Quarantined += set.Quarantined
	}
	return u, nil
}

// Sets returns the usage of all sets of ranges that addresses were taken from
// lately, sorted by their ranges. It needs no configuration.
func (s *Store) Sets(ctx context.Context) ([]SetUsage, error) {
	l, ok, err := s.lock(ctx, false)
	if err != nil || !ok {
		return nil, err
	}
	defer l.unlock()
	spaces, err := l.spaces()
	if err != nil {
		return nil, s.wrap(err)
	}
	slices.SortFunc(spaces, func(a, b space) int { return a.spans[0].first.Compare(b.spans[0].first) })
	sets := newSets(spaces)
	return sets, s.wrap(l.count(spaces, sets))
}

// spaces returns those that there are hints of, in no order.
func (l *session) spaces() ([]space, error) {
	files, err := filepath.Glob(filepath.Join(l.st.Dir, hintFiles+"*"))
	if err != nil {
		return nil, err
	}
	var spaces []space
	for _, f := range files {
		h, _, err := l.hint(strings.TrimPrefix(filepath.Base(f), hintFiles), 0, false)
		if err != nil {
			return nil, err
		}
		if h == nil {
			continue
		}
		text, err := h.ranges()
		if err != nil {
			return nil, err
		}
		if sp, ok := parseSpace(text); ok {
			spaces = append(spaces, sp)
		}
	}
	return spaces, nil
}

func newSets(spaces []space) []SetUsage {
	var sets []SetUsage
	for _, sp := range spaces {
		sets = append(sets, SetUsage{Ranges: sp.String(), Size: sp.size(), Free: sp.size()})
	}
	return sets
}

func (l *session) count(spaces []space, sets []SetUsage) error {
	addrs, err := l.taken()
	if err != nil {
		return err
	}
	quarantined, err := l.quarantined()
	if err != nil {
		return err
	}
	now := time.Now()
	// What is over counts as free: the next who wants an address finds it so.
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { _, ok := quarantined[a]; return ok })
	taken := make([]map[uint64]bool, len(spaces))
	for i, sp := range spaces {
		taken[i] = map[uint64]bool{}
		for _, a := range addrs {
			if n, ok := sp.index(a); ok {
				taken[i][n] = true
			}
		}
		n := uint64(len(taken[i]))
		for a, q := range quarantined {
			if _, ok := sp.index(a); ok && q.lasts(now) {
				sets[i].Quarantined++
			}
		}
		sets[i].Used, sets[i].Free = n, sets[i].Size-n-sets[i].Quarantined
		h, _, err := l.hint(sp.key(), sp.size(), false)
		if err != nil {
			return err
		}
		if h == nil {
			continue
		}
		resting := map[uint64]bool{}
		if err := h.each(h.cool, h.tail, func(_ uint64, e entry) bool {
			if e.until > now.UnixNano() && !taken[i][e.index-1] {
				resting[e.index] = true
			}
			return true
		}); err != nil {
			return err
		}
		sets[i].Resting = uint64(len(resting))
	}
	return nil
}

// List returns all allocations of the network. Damaged records come as an
// error that wraps [bowline.ErrDamaged], beside the good ones.
func (s *Store) List(ctx context.Context) ([]Allocation, error) {
	recs, err := s.records(ctx)
	var as []Allocation
	for _, rec := range recs {
		as = append(as, rec.allocations()...)
	}
	return as, s.wrap(err)
}

// Status returns nil if c could serve one more owner. The error wraps
// [bowline.ErrUnavailable] and names the set that is exhausted, after all whose
// namespace is gone have been reclaimed.
func (s *Store) Status(ctx context.Context, c Config) error {
	u, err := s.Usage(ctx, c)
	if err == nil && u.Free == 0 {
		if _, err = s.Reclaim(ctx); err == nil || errors.Is(err, bowline.ErrDamaged) {
			u, err = s.Usage(ctx, c)
		}
	}
	if err != nil {
		return err
	}
	for _, set := range u.Sets {
		if set.Free == 0 {
			return s.wrap(bowline.Wrong(bowline.ErrUnavailable, fullText(set.Ranges, set.Size, set.Quarantined)))
		}
	}
	return nil
}
