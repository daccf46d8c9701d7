package ipam

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// neighbour is who uses addresses of ours.
func neighbour() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 5} }

func conflict(a string) Conflict { return Conflict{ip(a), neighbour()} }

// pass has the store think that much time has passed.
func pass(t testing.TB, s *Store, d time.Duration) {
	t.Helper()
	l, ok, err := s.lock(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		defer l.unlock()
		if err := l.wake(time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
	}
}

func mustReplace(t testing.TB, s *Store, c Config, r Request, used ...Conflict) string {
	t.Helper()
	as, err := s.Replace(t.Context(), c, r, used...)
	if err != nil {
		t.Fatalf("Replace %v of %s: %v", used, r.Owner, err)
	}
	return addrs(as)
}

// quarantined returns what the store says of it, without times.
func quarantined(t testing.TB, s *Store) string {
	t.Helper()
	qs, err := s.Quarantined(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, q := range qs {
		texts = append(texts, q.String())
	}
	return strings.Join(texts, ", ")
}

func TestReplace(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), dual() // 5 of each family
	a := Request{Owner: owner("a"), Name: "a"}
	mustAllocate(t, s, c, a)
	if got, want := mustReplace(t, s, c, a, conflict("10.1.0.2")), "10.1.0.3/29 fd00:1::2/125"; got != want {
		t.Errorf("in place of 10.1.0.2: %s, want %s: the next, and what nobody else uses", got, want)
	}
	if got, want := mustReplace(t, s, c, a, conflict("10.1.0.3"), conflict("fd00:1::2")), "10.1.0.4/29 fd00:1::3/125"; got != want {
		t.Errorf("in place of both: %s, want %s", got, want)
	}
	if got, want := quarantined(t, s), "10.1.0.2 is in use by 02:00:00:00:00:05, 10.1.0.3 is in use by 02:00:00:00:00:05, fd00:1::2 is in use by 02:00:00:00:00:05"; got != want {
		t.Errorf("in quarantine: %s\nwant %s", got, want)
	}
	if err := s.Check(t.Context(), owner("a"), []netip.Addr{ip("10.1.0.4"), ip("fd00:1::3")}); err != nil {
		t.Error(err)
	}
	for i, want := range []string{"10.1.0.5/29 fd00:1::4/125", "10.1.0.6/29 fd00:1::5/125"} {
		if got := mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint("next", i))}); got != want {
			t.Errorf("the next got %s, want %s", got, want)
		}
	}
	_, err := s.Allocate(t.Context(), c, Request{Owner: owner("x")})
	if want := `network "web": ipam: no free address in 10.1.0.2-10.1.0.6: all 5 are taken, 2 of them in quarantine, for others use them`; !errors.Is(err, bowline.ErrExhausted) || errText(err) != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := s.Status(t.Context(), c); !errors.Is(err, bowline.ErrUnavailable) || !strings.Contains(err.Error(), "2 of them in quarantine") {
		t.Errorf("Status: %v, want unavailable, for 2 are in quarantine", err)
	}
	pass(t, s, 2*DefaultQuarantine)
	if got := quarantined(t, s); got != "" {
		t.Errorf("in quarantine after its time: %s", got)
	}
	if got, want := mustAllocate(t, s, c, Request{Owner: owner("x")}), "10.1.0.2/29 fd00:1::6/125"; got != want {
		t.Errorf("after the quarantine: %s, want %s", got, want)
	}
}

// TestReplaceExhausted: who cannot get another address holds nothing.
func TestReplaceExhausted(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), v4("10.1.0.0/30")
	mustAllocate(t, s, c, Request{Owner: owner("a")})
	if _, err := s.Replace(t.Context(), c, Request{Owner: owner("a")}, conflict("10.1.0.2")); !errors.Is(err, bowline.ErrExhausted) {
		t.Errorf("Replace of the only address: %v, want exhausted", err)
	}
	if as, err := s.Lookup(t.Context(), owner("a")); err != nil || len(as) > 0 {
		t.Errorf("a holds %s, %v", addrs(as), err)
	}
	// Asked for by value it may be tried again.
	if got := mustAllocate(t, s, c, Request{Owner: owner("b"), Want: []netip.Addr{ip("10.1.0.2")}}); got != "10.1.0.2/30" || quarantined(t, s) != "" {
		t.Errorf("asked for by value: %s, in quarantine %q", got, quarantined(t, s))
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		used    []Conflict
		left    string // of a, who has 10.1.0.2 and fd00:1::2
		wantErr error
	}{
		{"one of two", []Conflict{conflict("10.1.0.2")}, "fd00:1::2/125", nil},
		{"both", []Conflict{conflict("10.1.0.2"), conflict("fd00:1::2")}, "", nil},
		{"nobody's", []Conflict{conflict("10.1.0.6")}, "10.1.0.2/29 fd00:1::2/125", nil},
		{"another's", []Conflict{conflict("10.1.0.3")}, "10.1.0.2/29 fd00:1::2/125", bowline.ErrConflict},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, c := newStore(t), dual()
			mustAllocate(t, s, c, Request{Owner: owner("a"), Name: "a"})
			mustAllocate(t, s, c, Request{Owner: owner("b")})
			if err := s.Quarantine(t.Context(), owner("a"), time.Hour, tt.used...); !errors.Is(err, tt.wantErr) {
				t.Fatalf("Quarantine: %v, want %v", err, tt.wantErr)
			}
			if as, err := s.Lookup(t.Context(), owner("a")); err != nil || addrs(as) != tt.left {
				t.Errorf("a holds %s, %v; want %s", addrs(as), err, tt.left)
			}
			before := quarantined(t, s)
			if (before == "") != (tt.wantErr != nil) {
				t.Errorf("in quarantine: %q", before)
			}
			// It ends neither with who had the address nor with collecting garbage.
			mustRelease(t, s, owner("a"))
			if _, err := s.GC(t.Context(), func(o Owner) bool { return o == owner("b") }); err != nil {
				t.Fatal(err)
			}
			if now := quarantined(t, s); now != before {
				t.Errorf("after the release: %q, before %q", now, before)
			}
			// It is no reason to keep the network.
			mustRelease(t, s, owner("b"))
			if err := s.Remove(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(s.st.Dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after Remove: %v", err)
			}
		})
	}
}

// TestQuarantineIndex: the links say what is in quarantine, whatever became of
// the index, and whatever a kill left of it.
func TestQuarantineIndex(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(dir string) error
	}{
		{"gone", os.RemoveAll},
		{"next gone", func(dir string) error { return os.Remove(dir + "/" + nextLink) }},
		{"next makes no sense", func(dir string) error {
			return errors.Join(os.Remove(dir+"/"+nextLink), os.Symlink("nonsense", dir+"/"+nextLink))
		}},
		{"more than there is", func(dir string) error { return os.Symlink("/1/2/", dir+"/10.1.0.6") }},
		{"half replaced", func(dir string) error {
			other := filepath.Join(filepath.Dir(dir), addrsDir, newLink)
			return errors.Join(os.Symlink("/1/2/", dir+"/"+newLink), os.Symlink("/1/2/", other))
		}},
		{"as it is", func(string) error { return nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, c := newStore(t), v4("10.1.0.0/29") // 5 addresses
			mustAllocate(t, s, c, Request{Owner: owner("a")})
			if got := mustReplace(t, s, c, Request{Owner: owner("a")}, conflict("10.1.0.2")); got != "10.1.0.3/29" {
				t.Fatalf("got %s", got)
			}
			if err := tt.spoil(filepath.Join(s.st.Dir, quarantineDir)); err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{"10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29"} {
				if got := mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint("next", i))}); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			if _, err := s.Allocate(t.Context(), c, Request{Owner: owner("x")}); !errors.Is(err, bowline.ErrExhausted) {
				t.Errorf("Allocate: %v, want exhausted", err)
			}
			if got := quarantined(t, s); got != conflict("10.1.0.2").String() {
				t.Errorf("in quarantine: %q", got)
			}
			pass(t, s, 2*DefaultQuarantine)
			if got := mustAllocate(t, s, c, Request{Owner: owner("x")}); got != "10.1.0.2/29" {
				t.Errorf("after the quarantine: %s", got)
			}
			if _, err := s.GC(t.Context(), func(Owner) bool { return true }); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(s.st.Dir, quarantineDir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the index is left: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(s.st.Dir, addrsDir, newLink)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("half a replacement is left: %v", err)
			}
		})
	}
}

// TestClockSetBack: nobody knows how long a quarantine has lasted then.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), v4("10.1.0.0/30")
	mustAllocate(t, s, c, Request{Owner: owner("a")})
	if err := s.Quarantine(t.Context(), owner("a"), time.Hour, conflict("10.1.0.2")); err != nil {
		t.Fatal(err)
	}
	pass(t, s, -time.Hour)
	if got := mustAllocate(t, s, c, Request{Owner: owner("b")}); got != "10.1.0.2/30" {
		t.Errorf("got %s", got)
	}
}

// TestReplaceFailsAtEveryStep: whatever fails, no address is lost or given twice.
func TestReplaceFailsAtEveryStep(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		s, c := newStore(t), dual()
		mustAllocate(t, s, c, Request{Owner: owner("a")})
		_, err := s.Replace(netnstest.FailAfter(t.Context(), n), c, Request{Owner: owner("a")}, conflict("10.1.0.2"))
		mustRelease(t, s, owner("a"))
		pass(t, s, 2*DefaultQuarantine)
		for i := range 5 {
			mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint(i))})
		}
		if err == nil {
			if n < 5 {
				t.Errorf("Replace has %d steps that can fail, want at least quarantine, records and links", n)
			}
			return
		}
	}
}

// TestPoolQuarantine: the address that Docker's container could not use is not
// the next one's.
func TestPoolQuarantine(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	p := OpenPools()
	pool, err := p.RequestPool(t.Context(), "local", "10.1.0.0/29", "", false)
	if err != nil {
		t.Fatal(err)
	}
	request := func(want string) string {
		t.Helper()
		a, err := p.RequestAddress(t.Context(), pool.ID, ip(want), "", false)
		if err != nil {
			t.Fatal(err)
		}
		return a.Addr().String()
	}
	for _, tt := range []struct{ want, got, next string }{{"", "10.1.0.1", "10.1.0.2"}, {"10.1.0.3", "10.1.0.3", "10.1.0.4"}} {
		got := request(tt.want)
		if got != tt.got {
			t.Fatalf("got %s, want %s", got, tt.got)
		}
		if ours, err := p.Quarantine(t.Context(), conflict(got)); err != nil || !ours {
			t.Fatalf("Quarantine %s: %v, %v; want one of ours", got, ours, err)
		}
		if err := p.ReleaseAddress(t.Context(), pool.ID, ip(got)); err != nil { // as dockerd does
			t.Fatal(err)
		}
		if got := request(""); got != tt.next {
			t.Errorf("the next is %s, want %s", got, tt.next)
		}
	}
	if got := request("10.1.0.1"); got != "10.1.0.1" { // asked for by value it is tried again
		t.Errorf("asked for by value: %s", got)
	}
	for _, a := range []string{"10.1.0.6", "192.0.2.1"} {
		if ours, err := p.Quarantine(t.Context(), conflict(a)); err != nil || ours {
			t.Errorf("Quarantine %s, which no pool gave: %v, %v", a, ours, err)
		}
	}
	if err := p.ReleasePool(t.Context(), pool.ID); err != nil {
		t.Error(err)
	}
}

// BenchmarkAllocateInQuarantine is BenchmarkAllocate beside addresses that others use.
func BenchmarkAllocateInQuarantine(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, c := newRunStore(b), v4("10.0.0.0/16")
			c.Cooldown = DefaultCooldown
			for i := range n {
				o := owner(fmt.Sprint("before", i))
				as, err := s.Allocate(b.Context(), c, Request{Owner: o})
				if err == nil {
					err = s.Quarantine(b.Context(), o, time.Hour, Conflict{as[0].Addr.Addr(), neighbour()})
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for i := range b.N {
				o := owner(fmt.Sprint("c", i))
				mustAllocate(b, s, c, Request{Owner: o})
				b.StopTimer()
				mustRelease(b, s, o)
				b.StartTimer()
			}
		})
	}
}
