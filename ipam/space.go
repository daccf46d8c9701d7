package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/bits"
	"net/netip"
	"strings"
)

// A span is the addresses from first to last, both included, of one family.
type span struct{ first, last netip.Addr }

func (s span) String() string { return s.first.String() + "-" + s.last.String() }

func (s span) contains(a netip.Addr) bool {
	return a.Is4() == s.first.Is4() && !a.Less(s.first) && !s.last.Less(a)
}

func (s span) overlaps(o span) bool {
	return s.first.Is4() == o.first.Is4() && !o.last.Less(s.first) && !s.last.Less(o.first)
}

// size returns how many addresses there are, at most math.MaxUint64.
func (s span) size() uint64 {
	if d := distance(s.first, s.last); d < math.MaxUint64 {
		return d + 1
	}
	return math.MaxUint64
}

// A space is what one set hands out, in order: its addresses have the indices
// 0, 1, 2 and so on. IPv6 addresses beyond the first 2^64 have none.
type space struct{ spans []span }

// size returns how many addresses there are, at most math.MaxUint64.
func (s space) size() uint64 {
	var n uint64
	for _, sp := range s.spans {
		sum, carry := bits.Add64(n, sp.size(), 0)
		if carry != 0 {
			return math.MaxUint64
		}
		n = sum
	}
	return n
}

// at returns the address of index i, which must be below size.
func (s space) at(i uint64) netip.Addr {
	for _, sp := range s.spans {
		if n := sp.size(); i >= n {
			i -= n
			continue
		}
		return add(sp.first, i)
	}
	return netip.Addr{}
}

// index returns the index of a; ok is false if a is not in s.
func (s space) index(a netip.Addr) (i uint64, ok bool) {
	for _, sp := range s.spans {
		if sp.contains(a) {
			d := distance(sp.first, a)
			sum, carry := bits.Add64(i, d, 0)
			return sum, carry == 0 && d < math.MaxUint64
		}
		var carry uint64
		if i, carry = bits.Add64(i, sp.size(), 0); carry != 0 {
			return 0, false
		}
	}
	return 0, false
}

func (s space) String() string {
	texts := make([]string, len(s.spans))
	for i, sp := range s.spans {
		texts[i] = sp.String()
	}
	return strings.Join(texts, ",")
}

// parseSpace is the inverse of String; ok is false for any other text.
func parseSpace(text string) (s space, ok bool) {
	for part := range strings.SplitSeq(text, ",") {
		first, last, _ := strings.Cut(part, "-")
		a, err1 := netip.ParseAddr(first)
		b, err2 := netip.ParseAddr(last)
		if err1 != nil || err2 != nil {
			return space{}, false
		}
		s.spans = append(s.spans, span{a, b})
	}
	return s, true
}

// key tells spaces apart, as part of a file's name.
func (s space) key() string {
	d := sha256.Sum256([]byte(s.String()))
	return hex.EncodeToString(d[:8])
}

// without returns spans less what cut covers.
func without(spans []span, cut span) []span {
	var rest []span
	for _, s := range spans {
		if !s.overlaps(cut) {
			rest = append(rest, s)
			continue
		}
		if s.first.Less(cut.first) {
			rest = append(rest, span{s.first, cut.first.Prev()})
		}
		if cut.last.Less(s.last) {
			rest = append(rest, span{cut.last.Next(), s.last})
		}
	}
	return rest
}

// lastOf returns the last address of p.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		switch left := p.Bits() - 8*i; {
		case left <= 0:
			b[i] = 0xff
		case left < 8:
			b[i] |= 0xff >> left
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// distance returns to - from, at most math.MaxUint64; from must not be above.
func distance(from, to netip.Addr) uint64 {
	f, t := from.As16(), to.As16()
	lo, borrow := bits.Sub64(binary.BigEndian.Uint64(t[8:]), binary.BigEndian.Uint64(f[8:]), 0)
	hi, _ := bits.Sub64(binary.BigEndian.Uint64(t[:8]), binary.BigEndian.Uint64(f[:8]), borrow)
	if hi != 0 {
		return math.MaxUint64
	}
	return lo
}

// add returns the address n after a.
func add(a netip.Addr, n uint64) netip.Addr {
	b := a.As16()
	lo, carry := bits.Add64(binary.BigEndian.Uint64(b[8:]), n, 0)
	binary.BigEndian.PutUint64(b[8:], lo)
	binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+carry)
	sum := netip.AddrFrom16(b)
	if a.Is4() {
		return sum.Unmap()
	}
	return sum
}
