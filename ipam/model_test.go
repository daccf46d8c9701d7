package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
)

// A model is what a store with a cool-down that never ends should be like.
type model struct {
	spaces  []space
	held    map[Owner][]netip.Addr
	names   map[Owner]string
	last    map[string][]netip.Addr // what a name had
	resting [][]netip.Addr          // of each set, longest first

	quarantined map[netip.Addr]bool
}

func (m *model) taken(a netip.Addr) bool {
	for _, as := range m.held {
		if slices.Contains(as, a) {
			return true
		}
	}
	return false
}

// may says why a is not what an owner of that name may get of set i, or "".
func (m *model) may(i int, a, want netip.Addr, name string) string {
	_, ok := m.spaces[i].index(a)
	switch {
	case !ok:
		return "is not of the set"
	case m.taken(a):
		return "is taken"
	case want.IsValid():
		if a != want {
			return "is not the one asked for, " + want.String()
		}
		return ""
	case m.quarantined[a]:
		return "is in quarantine"
	}
	for _, l := range m.last[name] {
		if _, ok := m.spaces[i].index(l); ok && name != "" && !m.taken(l) && !m.quarantined[l] {
			if a != l {
				return "is not what the name had, " + l.String()
			}
			return ""
		}
	}
	var resting []netip.Addr
	for _, r := range m.resting[i] {
		if !m.taken(r) && !m.quarantined[r] {
			resting = append(resting, r)
		}
	}
	if free := m.free(i); free == len(resting) {
		if a != resting[0] {
			return "has not rested longest, that is " + resting[0].String()
		}
	} else if slices.Contains(resting, a) {
		return fmt.Sprintf("rests, and %d others do not", free-len(resting))
	}
	return ""
}

func (m *model) free(i int) int {
	n := int(m.spaces[i].size())
	for _, as := range m.held {
		for _, a := range as {
			if _, ok := m.spaces[i].index(a); ok {
				n--
			}
		}
	}
	for a := range m.quarantined {
		if _, ok := m.spaces[i].index(a); ok {
			n--
		}
	}
	return n
}

func (m *model) take(o Owner, name string, as []netip.Addr) {
	m.held[o], m.names[o] = as, name
	for _, a := range as {
		delete(m.quarantined, a)
	}
	for i := range m.resting {
		m.resting[i] = slices.DeleteFunc(m.resting[i], func(a netip.Addr) bool { return slices.Contains(as, a) })
	}
}

func (m *model) release(o Owner) {
	for _, a := range m.held[o] {
		for i, s := range m.spaces {
			if _, ok := s.index(a); ok {
				m.resting[i] = append(m.resting[i], a)
			}
		}
	}
	if name := m.names[o]; name != "" && len(m.held[o]) > 0 {
		m.last[name] = m.held[o]
	}
	delete(m.held, o)
	delete(m.names, o)
}

// TestStoreAgainstModel runs random operations on a store and on its model.
func TestStoreAgainstModel(t *testing.T) {
	t.Parallel()
	seeds := 12
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			againstModel(t, rand.New(rand.NewPCG(uint64(seed), 1)))
		})
	}
}

// FuzzStore is the same for as long as one likes.
func FuzzStore(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) { againstModel(t, rand.New(rand.NewPCG(a, b))) })
}

func againstModel(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	s := newStore(t)
	c := Config{
		Sets: []Set{
			{{Subnet: pfx("10.1.0.0/29"), Gateway: ip("10.1.0.1")}, {pfx("10.2.0.0/24"), ip("10.2.0.10"), ip("10.2.0.14"), ip("10.2.0.1")}},
			{{Subnet: pfx("fd00:1::/124"), Gateway: ip("fd00:1::1")}},
		},
		Exclude:  []netip.Prefix{pfx("10.2.0.12/32"), pfx("fd00:1::4/127")},
		Cooldown: time.Hour,
	}
	spaces, err := c.spaces()
	if err != nil {
		t.Fatal(err)
	}
	m := &model{spaces, map[Owner][]netip.Addr{}, map[Owner]string{}, map[string][]netip.Addr{}, make([][]netip.Addr, len(spaces)), map[netip.Addr]bool{}}
	for step := range 300 {
		o := owner(fmt.Sprint("c", rnd.IntN(14)))
		switch rnd.IntN(12) {
		case 0, 1, 2, 3, 4:
			r := Request{Owner: o}
			if rnd.IntN(3) == 0 {
				r.Name = fmt.Sprint("name", rnd.IntN(4))
			}
			wants := make([]netip.Addr, len(spaces))
			for i, sp := range spaces {
				if rnd.IntN(5) == 0 {
					wants[i] = sp.at(rnd.Uint64N(sp.size()))
					r.Want = append(r.Want, wants[i])
				}
			}
			allocateBoth(t, step, s, c, m, r, wants)
		case 5, 6, 7, 8:
			if _, err := s.Release(t.Context(), o); err != nil {
				t.Fatalf("step %d: Release %s: %v", step, o, err)
			}
			m.release(o)
		case 9:
			if rnd.IntN(4) == 0 { // in the order that GC has, which is of no matter else
				keep := func(o Owner) bool { return len(o.Container)%2 == 0 }
				released, err := s.GC(t.Context(), keep)
				if err != nil {
					t.Fatalf("step %d: GC: %v", step, err)
				}
				for _, a := range released {
					m.release(a.Owner)
				}
				for o := range m.held {
					if !keep(o) {
						t.Fatalf("step %d: GC left %s", step, o)
					}
				}
			}
		case 10, 11:
			conflictBoth(t, step, rnd, s, c, m, o)
		}
		compare(t, step, s, c, m)
	}
}

func allocateBoth(t *testing.T, step int, s *Store, c Config, m *model, r Request, wants []netip.Addr) {
	t.Helper()
	conflict, exhausted := len(m.held[r.Owner]) > 0, false
	for i, w := range wants {
		conflict = conflict || w.IsValid() && m.taken(w)
		exhausted = exhausted || m.free(i) == 0 && !m.quarantined[w]
	}
	as, err := s.Allocate(t.Context(), c, r)
	if err != nil {
		if !(conflict && errors.Is(err, bowline.ErrConflict) || exhausted && errors.Is(err, bowline.ErrExhausted)) {
			t.Fatalf("step %d: Allocate %+v: %v; want conflict %v, exhausted %v", step, r, err, conflict, exhausted)
		}
		return
	}
	if conflict || exhausted {
		t.Fatalf("step %d: Allocate %+v = %s; want conflict %v, exhausted %v", step, r, addrs(as), conflict, exhausted)
	}
	got := make([]netip.Addr, len(as))
	for i, a := range as {
		got[i] = a.Addr.Addr()
		if why := m.may(i, got[i], wants[i], r.Name); why != "" {
			t.Fatalf("step %d: Allocate %+v: %s %s", step, r, got[i], why)
		}
	}
	m.take(r.Owner, r.Name, got)
}

// conflictBoth has some of o's addresses in use by others, or time pass until no
// quarantine is left.
func conflictBoth(t *testing.T, step int, rnd *rand.Rand, s *Store, c Config, m *model, o Owner) {
	t.Helper()
	if rnd.IntN(8) == 0 {
		pass(t, s, 2*time.Hour)
		clear(m.quarantined)
		return
	}
	var used []Conflict
	rest := make([]netip.Addr, len(m.spaces)) // by set; zero: in use by somebody else
	var kept []netip.Addr
	for _, a := range m.held[o] {
		if rnd.IntN(2) == 0 {
			used = append(used, Conflict{a, neighbour()})
			continue
		}
		kept = append(kept, a)
		for i, sp := range m.spaces {
			if _, ok := sp.index(a); ok {
				rest[i] = a
			}
		}
	}
	name, held := m.names[o], len(m.held[o])
	for _, u := range used {
		m.quarantined[u.Addr] = true
	}
	delete(m.held, o)
	delete(m.names, o)
	if held < len(m.spaces) || rnd.IntN(2) == 0 { // what a Quarantine before took is not replaced
		if err := s.Quarantine(t.Context(), o, time.Hour, used...); err != nil {
			t.Fatalf("step %d: Quarantine %v of %s: %v", step, used, o, err)
		}
		if len(kept) > 0 {
			m.held[o], m.names[o] = kept, name
		}
		return
	}
	exhausted := false
	for i := range rest {
		exhausted = exhausted || m.free(i) == 0
	}
	as, err := s.Replace(t.Context(), c, Request{Owner: o, Name: name}, used...)
	if err != nil {
		if !exhausted || !errors.Is(err, bowline.ErrExhausted) {
			t.Fatalf("step %d: Replace %v of %s: %v; want exhausted %v", step, used, o, err, exhausted)
		}
		return
	}
	got := make([]netip.Addr, len(as))
	for i, a := range as {
		got[i] = a.Addr.Addr()
		if why := m.may(i, got[i], rest[i], name); why != "" {
			t.Fatalf("step %d: Replace %v of %s: %s %s", step, used, o, got[i], why)
		}
	}
	m.take(o, name, got)
}

func compare(t *testing.T, step int, s *Store, c Config, m *model) {
	t.Helper()
	as, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, a := range as {
		if !slices.Contains(m.held[a.Owner], a.Addr.Addr()) {
			t.Fatalf("step %d: %s belongs to %s, want %v", step, a.Addr, a.Owner, m.held[a.Owner])
		}
	}
	for o, held := range m.held {
		n += len(held)
		if err := s.Check(t.Context(), o, held); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	if n != len(as) {
		t.Fatalf("step %d: %d addresses are taken, want %d", step, len(as), n)
	}
	u, err := s.Usage(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, set := range u.Sets {
		quarantined := 0
		for a := range m.quarantined {
			if _, ok := m.spaces[i].index(a); ok {
				quarantined++
			}
		}
		if int(set.Quarantined) != quarantined {
			t.Fatalf("step %d: usage of set %d is %+v, want %d in quarantine", step, i, set, quarantined)
		}
		if int(set.Free) != m.free(i) || int(set.Resting) != len(m.resting[i]) || set.Used+set.Free+set.Quarantined != set.Size {
			t.Fatalf("step %d: usage of set %d is %+v, want %d free, %d resting", step, i, set, m.free(i), len(m.resting[i]))
		}
	}
}
