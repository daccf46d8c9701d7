package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/state"
)

// dual is a dual-stack config with few addresses.
func dual() Config {
	c := v4("10.1.0.0/29")
	c.Sets = append(c.Sets, v4("fd00:1::/125").Sets...)
	c.Cooldown = time.Hour
	return c
}

// TestFailAtEveryStep breaks each operation at each of its steps.
func TestFailAtEveryStep(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), dual()
	mustAllocate(t, s, c, Request{Owner: owner("other"), Name: "other"})
	steps := 0
	for ; ; steps++ {
		ctx := netnstest.FailAfter(t.Context(), steps)
		_, err := s.Allocate(ctx, c, Request{Owner: owner("c"), Name: "c"})
		if err == nil {
			break
		}
		if as, err := s.List(t.Context()); err != nil || addrs(as) != "10.1.0.2/29 fd00:1::2/125" {
			t.Fatalf("after Allocate failed at step %d, %s are taken, %v", steps, addrs(as), err)
		}
		if u, err := s.Usage(t.Context(), c); err != nil || u.Used != 2 || u.Resting != 0 {
			t.Fatalf("after Allocate failed at step %d, usage is %+v, %v", steps, u, err)
		}
	}
	if as, err := s.Lookup(t.Context(), owner("c")); err != nil || addrs(as) != "10.1.0.3/29 fd00:1::3/125" {
		t.Errorf("after %d failures c got %s, %v; want the next addresses, none lost", steps, addrs(as), err)
	}
	if steps < 4 {
		t.Errorf("Allocate has %d steps that can fail, want at least record and links", steps)
	}
	for n := 0; ; n++ {
		_, err := s.Release(netnstest.FailAfter(t.Context(), n), owner("c"))
		if err == nil {
			break
		}
	}
	if as, err := s.List(t.Context()); err != nil || addrs(as) != "10.1.0.2/29 fd00:1::2/125" {
		t.Errorf("after a Release that failed at each step, %s are taken, %v", addrs(as), err)
	}
	for n := 0; ; n++ {
		if _, err := s.GC(netnstest.FailAfter(t.Context(), n), func(Owner) bool { return false }); err == nil {
			break
		}
	}
	if u, err := s.Usage(t.Context(), c); err != nil || u.Used != 0 {
		t.Errorf("after a GC that failed at each step, usage is %+v, %v", u, err)
	}
}

// TestHalfMade: what a killed ADD left does not keep the next one from being served.
func TestHalfMade(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), dual()
	mustAllocate(t, s, c, Request{Owner: owner("c")})
	// As if killed between the two links.
	if err := os.Remove(filepath.Join(s.st.Dir, addrsDir, "fd00:1::2")); err != nil {
		t.Fatal(err)
	}
	mustAllocate(t, s, c, Request{Owner: owner("c")})
	if u, err := s.Usage(t.Context(), c); err != nil || u.Used != 2 {
		t.Errorf("usage is %+v, %v; want 2 used", u, err)
	}
}

func TestReclaimWhenExhausted(t *testing.T) {
	t.Parallel()
	netnstest.RequireRoot(t)
	s, c := newStore(t), dual() // 5 owners
	dir := t.TempDir()
	for i := range 5 {
		path := filepath.Join(dir, fmt.Sprint(i))
		h, err := netns.NewAt(path)
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		t.Cleanup(func() { netns.Remove(path) })
		r := Request{Owner: owner(fmt.Sprint("c", i)), Sandbox: path}
		if i == 4 {
			r.Sandbox = "" // Docker does not say
		}
		mustAllocate(t, s, c, r)
	}
	if _, err := s.Allocate(t.Context(), c, Request{Owner: owner("x")}); !errors.Is(err, bowline.ErrExhausted) {
		t.Fatalf("Allocate while all live: %v, want exhausted", err)
	}
	for _, i := range []int{1, 3, 4} {
		netns.Remove(filepath.Join(dir, fmt.Sprint(i)))
	}
	if err := s.Status(t.Context(), Config{Sets: c.Sets[:1]}); err != nil {
		t.Errorf("Status when two can be reclaimed: %v", err)
	}
	for i := range 2 {
		mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint("new", i))})
	}
	if _, err := s.Allocate(t.Context(), c, Request{Owner: owner("x")}); !errors.Is(err, bowline.ErrExhausted) {
		t.Errorf("Allocate after all that is dead was reclaimed: %v, want exhausted", err)
	}
	for i, want := range []bool{true, false, true, false, true} {
		if as, err := s.Lookup(t.Context(), owner(fmt.Sprint("c", i))); err != nil || (len(as) > 0) != want {
			t.Errorf("c%d holds %s, %v; want any: %v", i, addrs(as), err, want)
		}
	}
}

// TestDeadOwner: a namespace that is gone is no reason to refuse its successor,
// by the same ID or by the same address.
func TestDeadOwner(t *testing.T) {
	t.Parallel()
	netnstest.RequireRoot(t)
	s, c := newStore(t), dual()
	path := filepath.Join(t.TempDir(), "ns")
	renew := func() {
		t.Helper()
		netns.Remove(path)
		// Another namespace in between, for the kernel uses inodes again.
		spare := netnstest.New(t)
		_ = spare
		h, err := netns.NewAt(path)
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
	}
	t.Cleanup(func() { netns.Remove(path) })
	renew()
	first := mustAllocate(t, s, c, Request{Owner: owner("a"), Sandbox: path})
	netns.Remove(path)
	if got := mustAllocate(t, s, c, Request{Owner: owner("b"), Want: []netip.Addr{ip("10.1.0.2")}}); got[:11] != first[:11] {
		t.Errorf("b got %s, want 10.1.0.2 of the dead", got)
	}
	renew()
	mustAllocate(t, s, c, Request{Owner: owner("a"), Sandbox: path})
	if _, err := s.Allocate(t.Context(), c, Request{Owner: owner("a"), Sandbox: path}); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("Allocate for a who lives: %v, want conflict", err)
	}
	renew()
	mustAllocate(t, s, c, Request{Owner: owner("a"), Sandbox: path})
	if u, err := s.Usage(t.Context(), c); err != nil || u.Used != 4 {
		t.Errorf("usage is %+v, %v; want two owners with two addresses", u, err)
	}
}

func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	c := dual()
	spoil := func(t *testing.T, s *Store, o Owner) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(s.st.Dir, recordName(o)), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newFilled := func(t *testing.T) *Store {
		t.Helper()
		s := newStore(t)
		mustAllocate(t, s, c, Request{Owner: owner("a")})
		mustAllocate(t, s, c, Request{Owner: owner("b")})
		spoil(t, s, owner("a"))
		return s
	}
	expect := func(t *testing.T, s *Store, want string) {
		t.Helper()
		u, err := s.Usage(t.Context(), c)
		if got := fmt.Sprint(u.Used, " used"); err != nil || got != want {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
	}
	t.Run("release finds what belongs to it", func(t *testing.T) {
		t.Parallel()
		s := newFilled(t)
		as, err := s.Release(t.Context(), owner("a"))
		if !errors.Is(err, bowline.ErrDamaged) || len(as) != 2 {
			t.Errorf("Release = %s, %v; want both addresses and a report", addrs(as), err)
		}
		expect(t, s, "2 used")
	})
	t.Run("others do not notice, release comes later", func(t *testing.T) {
		t.Parallel()
		s := newFilled(t)
		if as, err := s.List(t.Context()); !errors.Is(err, bowline.ErrDamaged) || len(as) != 2 {
			t.Errorf("List = %s, %v; want those of b and a report", addrs(as), err)
		}
		if got := mustAllocate(t, s, c, Request{Owner: owner("d")}); got != "10.1.0.4/29 fd00:1::4/125" {
			t.Errorf("d got %s", got)
		}
		if as, err := s.Release(t.Context(), owner("a")); err != nil || len(as) != 2 {
			t.Errorf("Release = %s, %v; want both addresses", addrs(as), err)
		}
		expect(t, s, "4 used")
	})
	t.Run("the same owner may come again", func(t *testing.T) {
		t.Parallel()
		s := newFilled(t)
		mustAllocate(t, s, c, Request{Owner: owner("a")})
		expect(t, s, "4 used")
	})
	t.Run("gc releases", func(t *testing.T) {
		t.Parallel()
		s := newFilled(t)
		as, err := s.GC(t.Context(), func(o Owner) bool { return o == owner("b") })
		if !errors.Is(err, bowline.ErrDamaged) || len(as) != 2 {
			t.Errorf("GC = %s, %v; want both addresses and a report", addrs(as), err)
		}
		expect(t, s, "2 used")
	})
	t.Run("gc mends", func(t *testing.T) {
		t.Parallel()
		s := newFilled(t)
		as, err := s.GC(t.Context(), func(Owner) bool { return true })
		if !errors.Is(err, bowline.ErrDamaged) || len(as) != 0 {
			t.Errorf("GC = %s, %v; want a report", addrs(as), err)
		}
		if err := s.Check(t.Context(), owner("a"), []netip.Addr{ip("10.1.0.2"), ip("fd00:1::2")}); err != nil {
			t.Error(err)
		}
		expect(t, s, "4 used")
	})
}

func TestPreviousBoot(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), dual()
	for i := range 5 {
		mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint(i)), Name: "n"})
	}
	root := filepath.Dir(filepath.Dir(s.st.Dir))
	now := &Store{"web", state.Store{Dir: filepath.Join(root, "later", "web")}, "later"}
	if as, err := now.List(t.Context()); err != nil || len(as) > 0 {
		t.Errorf("List after a reboot = %s, %v", addrs(as), err)
	}
	if as, err := now.Release(t.Context(), owner("1")); err != nil || len(as) > 0 {
		t.Errorf("Release after a reboot = %s, %v", addrs(as), err)
	}
	if got := mustAllocate(t, now, c, Request{Owner: owner("1")}); got != "10.1.0.2/29 fd00:1::2/125" {
		t.Errorf("Allocate after a reboot = %s, want the first addresses", got)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 {
		t.Errorf("%v, %v; want what the previous boot left to be gone", left, err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), dual()
	for i := range 3 {
		mustAllocate(t, s, c, Request{Owner: owner("a"), Name: "n"})
		if err := s.Remove(t.Context()); !errors.Is(err, bowline.ErrConflict) {
			t.Errorf("Remove while a holds addresses: %v, want conflict", err)
		}
		mustRelease(t, s, owner("a"))
		if err := s.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.st.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("round %d: stat %s: %v, want not exist", i, s.st.Dir, err)
		}
		if err := s.Remove(t.Context()); err != nil {
			t.Errorf("removing nothing: %v", err)
		}
	}
}

// TestRemoveWhileOthersAllocate: who waits for the lock of a directory that is
// removed meanwhile must not go on in it.
func TestRemoveWhileOthersAllocate(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), dual()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				o := owner(fmt.Sprintf("%d-%d", w, i))
				if _, err := s.Allocate(t.Context(), c, Request{Owner: o}); err != nil {
					t.Errorf("Allocate: %v", err)
					return
				}
				if as, err := s.Lookup(t.Context(), o); err != nil || len(as) != 2 {
					t.Errorf("Lookup = %s, %v", addrs(as), err)
				}
				if _, err := s.Release(t.Context(), o); err != nil {
					t.Errorf("Release: %v", err)
				}
				if err := s.Remove(t.Context()); err != nil && !errors.Is(err, bowline.ErrConflict) {
					t.Errorf("Remove: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// TestHintsDecideNothing: whatever the hint says, no address is given out twice
// and all are found.
func TestHintsDecideNothing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(path string) error
	}{
		{"gone", os.Remove},
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"all free", func(path string) error { return os.Truncate(path, headerLen) }},
		{"all taken", func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{0xff, 0xff}, headerLen)
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, c := newStore(t), v4("10.1.0.0/28") // 13 hosts
			seen := map[string]bool{}
			for i := range 13 {
				if i == 7 {
					hints, err := filepath.Glob(filepath.Join(s.st.Dir, hintFiles+"*"))
					if err != nil || len(hints) != 1 {
						t.Fatalf("hints are %v, %v; want one", hints, err)
					}
					if err := tt.spoil(hints[0]); err != nil {
						t.Fatal(err)
					}
				}
				got := mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint(i))})
				if seen[got] {
					t.Fatalf("%s was given out twice", got)
				}
				seen[got] = true
			}
			if _, err := s.Allocate(t.Context(), c, Request{Owner: owner("x")}); !errors.Is(err, bowline.ErrExhausted) {
				t.Errorf("Allocate when all are taken: %v, want exhausted", err)
			}
		})
	}
}
