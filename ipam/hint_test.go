package ipam

import (
	"io"
	"slices"
	"testing"
)

// memory is a file that is not there.
type memory struct{ b []byte }

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(b, m.b[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if need := int(at) + len(b); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[at:], b), nil
}

func newHint(t testing.TB, size uint64) *hint {
	t.Helper()
	h, fresh, err := openHint(&memory{}, size)
	if err != nil || !fresh {
		t.Fatalf("openHint of nothing: fresh %v, %v", fresh, err)
	}
	return h
}

// reopen is what the next process sees.
func reopen(t testing.TB, h *hint) *hint {
	t.Helper()
	if err := h.save(); err != nil {
		t.Fatal(err)
	}
	again, fresh, err := openHint(h.f, h.size)
	if err != nil || fresh {
		t.Fatalf("openHint: fresh %v, %v", fresh, err)
	}
	return again
}

func TestHintNextFit(t *testing.T) {
	t.Parallel()
	h := newHint(t, 20)
	var got []uint64
	for range 25 {
		i, ok, err := h.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		got = append(got, i)
		if err := h.mark(i, true); err != nil {
			t.Fatal(err)
		}
		h.moveCursor(i)
		h = reopen(t, h)
		if i == 9 { // free again, but the others come first
			if err := h.mark(3, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 3}
	if !slices.Equal(got, want) {
		t.Errorf("order is %v\nwant %v", got, want)
	}
}

func TestHintWindowMoves(t *testing.T) {
	t.Parallel()
	h := newHint(t, 5*windowBits/2)
	taken := make([]uint64, 0, 2*windowBits)
	for i := range uint64(2 * windowBits) {
		taken = append(taken, i)
	}
	if err := h.rebuild(taken); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, h)
	if i, ok, err := h.next(); i != 2*windowBits || !ok || err != nil {
		t.Errorf("next = %d, %v, %v; want the first index of the third window", i, ok, err)
	}
	// And back, from the last window, which is half as long.
	for i := range uint64(windowBits / 2) {
		taken = append(taken, 2*windowBits+i)
	}
	if err := h.rebuild(taken[1:]); err != nil {
		t.Fatal(err)
	}
	if i, ok, err := h.next(); i != 0 || !ok || err != nil {
		t.Errorf("next = %d, %v, %v; want 0", i, ok, err)
	}
	if err := h.rebuild(taken); err != nil {
		t.Fatal(err)
	}
	if i, ok, err := h.next(); ok || err != nil {
		t.Errorf("next = %d, %v, %v; want nothing", i, ok, err)
	}
}

func TestHintRests(t *testing.T) {
	t.Parallel()
	h := newHint(t, 4)
	for i := range uint64(4) {
		if err := h.mark(i, true); err != nil {
			t.Fatal(err)
		}
	}
	for n, i := range []uint64{2, 0, 3} {
		if _, err := h.rest(i, int64(100+10*n), 7); err != nil { // until 100, 110, 120
			t.Fatal(err)
		}
	}
	h = reopen(t, h)
	if _, ok, _ := h.next(); ok {
		t.Error("a resting index is free")
	}
	if err := h.wake(105, 16); err != nil {
		t.Fatal(err)
	}
	if i, ok, err := h.next(); i != 2 || !ok || err != nil {
		t.Errorf("next at 105 = %d, %v, %v; want 2", i, ok, err)
	}
	if i, ok, err := h.oldest(); i != 0 || !ok || err != nil {
		t.Errorf("oldest = %d, %v, %v; want 0", i, ok, err)
	}
	if err := h.forget(3); err != nil { // taken for what it is
		t.Fatal(err)
	}
	if i, ok, err := h.oldest(); ok || err != nil {
		t.Errorf("oldest = %d, %v, %v; want nothing", i, ok, err)
	}
}

// TestHintForgets: the ring is finite. What falls off is free, and its name
// forgotten unless it was released again later.
func TestHintForgets(t *testing.T) {
	t.Parallel()
	h := newHint(t, ringLen+10)
	for i := range uint64(ringLen + 2) {
		if err := h.mark(i, true); err != nil {
			t.Fatal(err)
		}
		holder := 1000 + i
		if i == 0 || i == 500 {
			holder = 5
		}
		forgotten, err := h.rest(i, 1<<62, holder)
		want := uint64(0)
		if i == ringLen+1 {
			want = 1001
		}
		if err != nil || forgotten != want {
			t.Fatalf("rest %d forgot name %d, %v; want %d", i, forgotten, err, want)
		}
	}
	h.cursor = 1
	if i, ok, err := h.next(); i != 1 || !ok || err != nil {
		t.Errorf("next = %d, %v, %v; want 1, which fell off", i, ok, err)
	}
	h.cursor = 0
	if i, ok, err := h.next(); i != 0 || !ok || err != nil {
		t.Errorf("next = %d, %v, %v; want 0, which fell off", i, ok, err)
	}
}

func TestHintOfRubbish(t *testing.T) {
	t.Parallel()
	good := newHint(t, 100)
	if err := good.save(); err != nil {
		t.Fatal(err)
	}
	whole := good.f.(*memory).b
	for n := range len(whole) {
		for _, flip := range []byte{0xff, 0x80, 1} {
			b := slices.Clone(whole)
			b[n] ^= flip
			h, _, err := openHint(&memory{b}, 100)
			if err != nil {
				t.Fatal(err)
			}
			if i, ok, err := h.next(); err != nil || ok && i >= 100 {
				t.Fatalf("byte %d: next = %d, %v, %v", n, i, ok, err)
			}
			if _, err := h.rest(5, 0, 1); err != nil {
				t.Fatal(err)
			}
			if err := h.wake(1, 16); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// FuzzHint compares a hint with a plain model, through random operations.
func FuzzHint(f *testing.F) {
	f.Add(uint16(10), []byte("\x00\x01\x02\x03\x04\x00\x00\x05\x12\x22\x32\x03\x03"))
	f.Add(uint16(300), []byte("000011112222333344440123401234"))
	f.Fuzz(func(t *testing.T, size uint16, ops []byte) {
		n := uint64(size)%2000 + 1
		h := newHint(t, n)
		busy := map[uint64]bool{} // bit set
		var resting []entry
		now := int64(0)
		for k, op := range ops {
			arg := uint64(op>>3) * 7 % n
			now++
			switch op & 7 {
			case 0, 1: // the next free
				i, ok, err := h.next()
				if err != nil {
					t.Fatal(err)
				}
				if ok == (uint64(len(busy)) == n) || ok && (busy[i] || i >= n) {
					t.Fatalf("op %d: next = %d, %v with %d of %d busy", k, i, ok, len(busy), n)
				}
				if ok {
					for j := h.cursor % n; j != i; j = (j + 1) % n {
						if !busy[j] {
							t.Fatalf("op %d: next = %d, but %d is free and nearer to the cursor %d", k, i, j, h.cursor)
						}
					}
					if err := h.mark(i, true); err != nil {
						t.Fatal(err)
					}
					h.moveCursor(i)
					busy[i] = true
				}
			case 2:
				if err := h.mark(arg, false); err != nil {
					t.Fatal(err)
				}
				delete(busy, arg)
			case 3: // release: rests for some time
				if busy[arg] && !slices.ContainsFunc(resting, func(e entry) bool { return e.index == arg }) {
					if _, err := h.rest(arg, now+int64(op>>5), arg+1); err != nil {
						t.Fatal(err)
					}
					resting = append(resting, entry{arg, now + int64(op>>5), 0})
				}
			case 4:
				if err := h.wake(now, 1<<40); err != nil {
					t.Fatal(err)
				}
				for len(resting) > 0 && resting[0].until <= now {
					delete(busy, resting[0].index)
					resting = resting[1:]
				}
			case 5:
				i, ok, err := h.oldest()
				if err != nil || ok != (len(resting) > 0) || ok && i != resting[0].index {
					t.Fatalf("op %d: oldest = %d, %v, %v; want one of %v", k, i, ok, err, resting)
				}
				if ok {
					resting = resting[1:]
				}
			case 6:
				if err := h.forget(arg); err != nil {
					t.Fatal(err)
				}
				resting = slices.DeleteFunc(resting, func(e entry) bool { return e.index == arg })
			case 7:
				h = reopen(t, h)
				if op > 128 {
					var taken []uint64
					for i := range busy {
						taken = append(taken, i)
					}
					if err := h.rebuild(taken); err != nil {
						t.Fatal(err)
					}
					for _, e := range resting {
						busy[e.index] = true
					}
				}
			}
		}
		for i := range n {
			if bit, ok, err := h.scan(i, i+1); err != nil || ok == busy[i] {
				t.Fatalf("bit %d: scan = %d, %v, %v; want taken %v", i, bit, ok, err, busy[i])
			}
		}
	})
}
