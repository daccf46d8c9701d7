package ipam

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

// A hint remembers which indices of a space were free, where the last search
// ended and which addresses rest. It makes allocation cheap and decides
// nothing: what it says is checked against the links, and what it forgot is
// found again by rebuild.
//
// The file is a header, a bitmap of one window of the space (1: taken or
// resting) and a ring of what was released last:
//
//	head ≤ cool ≤ tail   counters of ring entries
//	[head, cool)         rested; only their names are still remembered
//	[cool, tail)         rest until their time
//
// Between bitmap and ring it says in text which ranges the space has, for those
// who have no configuration that does.
type hint struct {
	f hintFile
	header
}

type hintFile interface {
	io.ReaderAt
	io.WriterAt
}

type header struct {
	size             uint64 // of the space
	base             uint64 // index of the window's first bit
	cursor           uint64 // bit where the next search begins
	head, cool, tail uint64
}

// An entry is one release.
type entry struct {
	index  uint64 // + 1; 0: void
	until  int64  // Unix time in ns when the address has rested
	holder uint64 // nameKey of who had it; 0: nobody
}

const (
	hintMagic  = 0x31686d6177696f62
	windowBits = 1 << 20 // addresses in the bitmap: 128 KiB of them
	ringLen    = 1 << 12 // releases remembered: 96 KiB of them
	headerLen  = 64
	entryLen   = 24
	textStart  = headerLen + windowBits/8
	ringStart  = (headerLen + windowBits/8 + 4095) &^ 4095
)

// openHint reads the header of f. fresh says that there was none, or none to
// trust: the bitmap must be rebuilt before use. A size of 0 stands for that of
// the header.
func openHint(f hintFile, size uint64) (h *hint, fresh bool, err error) {
	h = &hint{f, header{size: size}}
	var b [headerLen]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	if n < headerLen || u(0) != hintMagic || size != 0 && u(1) != size {
		return h, true, nil
	}
	got := header{u(1), u(2), u(3), u(4), u(5), u(6)}
	if got.base >= got.size || got.cursor > windowBits || got.head > got.cool || got.cool > got.tail || got.tail-got.head > ringLen {
		return h, true, nil
	}
	h.header = got
	return h, false, nil
}

// window returns how many bits are in use.
func (h *hint) window() uint64 { return min(windowBits, h.size-h.base) }

// save writes the header.
func (h *hint) save() error {
	var b [headerLen]byte
	for i, v := range []uint64{hintMagic, h.size, h.base, h.cursor, h.head, h.cool, h.tail} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	_, err := h.f.WriteAt(b[:], 0)
	return err
}

// describe writes which ranges the space has, if there is room for it.
func (h *hint) describe(ranges string) error {
	b := make([]byte, ringStart-textStart)
	if len(ranges) < len(b) {
		copy(b, ranges)
	}
	_, err := h.f.WriteAt(b, textStart)
	return err
}

// ranges returns what describe wrote, "" if nothing.
func (h *hint) ranges() (string, error) {
	b := make([]byte, ringStart-textStart)
	n, err := h.f.ReadAt(b, textStart)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	text, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(text), nil
}

// next returns the first index from the cursor on, or from the start, that the
// bitmap has as free; ok is false if the window is full.
func (h *hint) next() (index uint64, ok bool, err error) {
	n := h.window()
	for _, part := range [2][2]uint64{{h.cursor, n}, {0, min(h.cursor, n)}} {
		bit, ok, err := h.scan(part[0], part[1])
		if ok || err != nil {
			return h.base + bit, ok, err
		}
	}
	return 0, false, nil
}

// scan returns the first zero bit of [from, to). It reads little at first, for
// the next bit is free as a rule.
func (h *hint) scan(from, to uint64) (bit uint64, ok bool, err error) {
	buf := make([]byte, 64)
	for from < to {
		n, err := h.f.ReadAt(buf, headerLen+int64(from/8))
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		clear(buf[n:]) // beyond the end of the file nothing was ever taken
		start := from &^ 7
		for i, b := range buf {
			if at := start + uint64(8*i); at < from { // only in the first byte
				b |= 1<<(from-at) - 1
			}
			if b != 0xff {
				bit = start + uint64(8*i+bits.TrailingZeros8(^b))
				return bit, bit < to, nil
			}
		}
		from = start + uint64(8*len(buf))
		if len(buf) == 64 {
			buf = make([]byte, 16<<10)
		}
	}
	return 0, false, nil
}

// mark sets the bit of index to taken or free. Indices outside of the window
// have none.
func (h *hint) mark(index uint64, taken bool) error {
	bit := index - h.base
	if index < h.base || bit >= h.window() {
		return nil
	}
	var b [1]byte
	at := headerLen + int64(bit/8)
	if _, err := h.f.ReadAt(b[:], at); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	old := b[0]
	if taken {
		b[0] |= 1 << (bit % 8)
	} else {
		b[0] &^= 1 << (bit % 8)
	}
	if b[0] == old {
		return nil
	}
	_, err := h.f.WriteAt(b[:], at)
	return err
}

// moveCursor makes the next search begin after index.
func (h *hint) moveCursor(index uint64) {
	if bit := index - h.base; index >= h.base && bit < h.window() {
		h.cursor = bit + 1
	}
}

// rebuild writes the bitmap anew: taken are the indices that are taken, in any
// order. If the window is full it moves on to one that is not, until it has
// seen all.
func (h *hint) rebuild(taken []uint64) error {
	resting, err := h.entries(h.cool, h.tail)
	if err != nil {
		return err
	}
	for tries := uint64(0); ; tries++ {
		bitmap := make([]byte, (h.window()+7)/8)
		var full uint64
		put := func(index uint64) {
			if bit := index - h.base; index >= h.base && bit < h.window() && bitmap[bit/8]&(1<<(bit%8)) == 0 {
				bitmap[bit/8] |= 1 << (bit % 8)
				full++
			}
		}
		for _, i := range taken {
			put(i)
		}
		for _, e := range resting {
			put(e.index - 1)
		}
		if full == h.window() && tries <= (uint64(len(taken))+ringLen)/windowBits && h.size > windowBits {
			h.base += h.window()
			if h.base >= h.size {
				h.base = 0
			}
			h.cursor = 0
			continue
		}
		return h.write(bitmap)
	}
}

// write replaces the bitmap, leaving out what is zero at its end.
func (h *hint) write(bitmap []byte) error {
	used := len(bitmap)
	for used > 0 && bitmap[used-1] == 0 {
		used--
	}
	rest := make([]byte, min(int64(windowBits/8-used), 4096))
	if _, err := h.f.WriteAt(bitmap[:used], headerLen); err != nil {
		return err
	}
	// What the file held beyond is zeroed where it is not zero already.
	old := make([]byte, len(rest))
	for at := used; at < windowBits/8; at += len(rest) {
		n, err := h.f.ReadAt(old[:min(len(old), windowBits/8-at)], headerLen+int64(at))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			break
		}
		if nonzero(old[:n]) {
			if _, err := h.f.WriteAt(rest[:n], headerLen+int64(at)); err != nil {
				return err
			}
		}
	}
	return h.save()
}

func nonzero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return true
		}
	}
	return false
}
