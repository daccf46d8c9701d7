package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/quick"
	"time"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

type value struct {
	Name  string
	Count int
}

func TestPutGetDelete(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		s := Store{Dir: filepath.Join(t.TempDir(), "not", "there", "yet"), Durable: durable}
		var got value
		if err := s.Get(t.Context(), "a/b", &got); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get of nothing: %v", err)
		}
		for i := range 2 {
			if err := s.Put(t.Context(), "a/b", value{"x", i}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Get(t.Context(), "a/b", &got); err != nil || got != (value{"x", 1}) {
			t.Errorf("Get = %+v, %v", got, err)
		}
		if err := s.Create(t.Context(), "a/b", value{"y", 9}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Create over a record: %v, want exists", err)
		}
		for range 2 {
			if err := s.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
		}
		if left, _ := os.ReadDir(s.Dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestTornRecord cuts and changes a record at every byte: each time it must be
// told from a whole one, kept, and out of the way of the others.
func TestTornRecord(t *testing.T) {
	t.Parallel()
	whole, err := encode(value{"web", 7})
	if err != nil {
		t.Fatal(err)
	}
	var damaged [][]byte
	for i := range len(whole) - 1 { // without the last newline it is whole still
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		damaged = append(damaged, whole[:i], flipped)
	}
	for i, data := range damaged {
		s := Store{Dir: t.TempDir()}
		if err := s.Put(t.Context(), "d/good", value{"good", 1}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir, "d", "bad"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		var got value
		err := s.Get(t.Context(), "d/bad", &got)
		var de *DamagedError
		if !errors.As(err, &de) {
			t.Fatalf("case %d, %q: %v, want DamagedError", i, data, err)
		}
		if kept, err := os.ReadFile(de.Kept); err != nil || !bytes.Equal(kept, data) {
			t.Errorf("case %d: kept %q, %v", i, kept, err)
		}
		if err := s.Get(t.Context(), "d/bad", &got); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("case %d: second Get: %v, want not exist", i, err)
		}
		if names, err := s.List(t.Context(), "d"); err != nil || !slices.Equal(names, []string{"d/good"}) {
			t.Errorf("case %d: List = %v, %v", i, names, err)
		}
	}
}

func TestKeysDoNotCollide(t *testing.T) {
	t.Parallel()
	if err := quick.Check(func(a, b string) bool {
		ka, kb := Key(a), Key(b)
		return (a == b) == (ka == kb) && filepath.Base(ka) == ka && ka[0] != '.'
	}, nil); err != nil {
		t.Error(err)
	}
	for _, pair := range [][2]string{{"a/b", "a%2fb"}, {"", "%"}, {".", ".."}, {"a", "A"}} {
		if Key(pair[0]) == Key(pair[1]) {
			t.Errorf("%q and %q have the key %q", pair[0], pair[1], Key(pair[0]))
		}
	}
}

func TestConcurrentPutAndDelete(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				name := fmt.Sprintf("d/%d", i)
				if err := s.Put(t.Context(), name, value{"x", j}); err != nil {
					t.Error(err)
				}
				var got value
				if err := s.Get(t.Context(), name, &got); err != nil || got.Count != j {
					t.Errorf("Get = %+v, %v", got, err)
				}
				if err := s.Delete(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestLockExcludes(t *testing.T) {
	t.Parallel()
	s := Store{Dir: filepath.Join(t.TempDir(), "new")}
	inside, most := 0, 0
	var mu, wg = sync.Mutex{}, sync.WaitGroup{}
	for range 8 {
		wg.Go(func() {
			for range 50 {
				unlock, err := s.Lock("x")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				mu.Lock()
				inside--
				mu.Unlock()
				unlock()
			}
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d holders at once", most)
	}
}

func TestSweepRemovesWhatKilledWritersLeft(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	if err := s.Put(t.Context(), "d/a", value{}); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(s.Dir, "d", ".tmp-123")
	if err := os.WriteFile(tmp, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep("", time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tmp); err != nil {
		t.Errorf("a young file went: %v", err)
	}
	tomorrow := time.Now().Add(24 * time.Hour) // the clock was wrong when it was written
	future := filepath.Join(s.Dir, "d", ".tmp-456")
	if err := os.WriteFile(future, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chtimes(future, tomorrow, tomorrow), s.Sweep("", time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(future); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of tomorrow stayed: %v", err)
	}
	if err := s.Sweep("", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tmp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old file stayed: %v", err)
	}
	if names, err := s.List(t.Context(), "d"); err != nil || len(names) != 1 {
		t.Errorf("List = %v, %v", names, err)
	}
}

func TestVerbsAskTheirContext(t *testing.T) {
	t.Parallel()
	s := Store{Dir: t.TempDir()}
	ctx := netnstest.FailAfter(t.Context(), 0)
	_, lerr := s.List(ctx, "")
	for i, err := range []error{s.Put(ctx, "a", 1), s.Get(ctx, "a", new(int)), s.Delete(ctx, "a"), lerr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("verb %d: %v, want canceled", i+1, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	whole, _ := encode(value{"web", 7})
	f.Add(whole)
	f.Add([]byte(version + " 00000000 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v value
		if reason := decode(data, &v); reason != "" {
			return
		}
		again, err := encode(v)
		if err != nil {
			t.Fatal(err)
		}
		var w value
		if reason := decode(again, &w); reason != "" || w != v {
			t.Errorf("%q decodes to %+v, and again to %+v (%s)", data, v, w, reason)
		}
	})
}
