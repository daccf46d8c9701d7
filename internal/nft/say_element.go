package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// elemKeyEnd is NFTA_SET_ELEM_KEY_END.
const elemKeyEnd = 10

// An elementFields is an element as messages have it.
type elementFields struct{ fields }

// elementsOf returns the elements of a message that adds, deletes or tells of
// some.
func elementsOf(m netlink.Message) (es []elementFields) {
	eachField(attributes(m.Data)[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, data []byte) {
		es = append(es, elementFields{readFields(data)})
	})
	return es
}

// end reports whether it is the other end of an interval.
func (e elementFields) end() bool {
	return e.u32(unix.NFTA_SET_ELEM_FLAGS)&unix.NFT_SET_ELEM_INTERVAL_END != 0
}

// asked is what a question for the element has of it.
func (e elementFields) asked() []byte {
	var b []byte
	for _, typ := range []uint16{unix.NFTA_SET_ELEM_KEY, elemKeyEnd} {
		if e.fields[typ] != nil {
			b = append(b, attribute(typ|unix.NLA_F_NESTED, e.fields[typ])...)
		}
	}
	return b
}

func (e elementFields) value(typ uint16) []byte {
	return readFields(e.fields[typ])[unix.NFTA_DATA_VALUE]
}

// sayKey writes the key, or the range of keys, part by part.
func (e elementFields) sayKey(t keyType) string {
	key, end := e.value(unix.NFTA_SET_ELEM_KEY), e.value(elemKeyEnd)
	first := strings.Split(sayValue(t.key, key), " . ")
	if end == nil {
		return strings.Join(first, " . ")
	}
	last := strings.Split(sayValue(t.key, end), " . ")
	for i := range first {
		if i < len(last) && first[i] != last[i] {
			first[i] = sayRange(first[i], last[i])
		}
	}
	return strings.Join(first, " . ")
}

// before returns the key before that one.
func before(key []byte) []byte {
	b := slices.Clone(key)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	return b
}

// sayRange writes a prefix where it is one.
func sayRange(first, end string) string {
	a, err1 := netip.ParseAddr(first)
	b, err2 := netip.ParseAddr(end)
	if err1 == nil && err2 == nil {
		for bits := range a.BitLen() + 1 {
			if p, err := a.Prefix(bits); err == nil && p.Addr() == a && slices.Equal(last(p), b.AsSlice()) {
				return p.String()
			}
		}
	}
	if first == end {
		return first
	}
	return first + "-" + end
}

// sayData writes what the key leads to, nothing for a set's.
func (e elementFields) sayData(t keyType) string {
	data := readFields(e.fields[unix.NFTA_SET_ELEM_DATA])
	if v := data[unix.NFTA_DATA_VERDICT]; v != nil {
		return " : " + sayVerdict(readFields(v))
	}
	if v := data[unix.NFTA_DATA_VALUE]; v != nil {
		return " : " + sayValue(t.data, v)
	}
	return ""
}

func sayVerdict(v fields) string {
	words := map[int32]string{0: "drop", 1: "accept", unix.NFT_CONTINUE: "continue", unix.NFT_JUMP: "jump", unix.NFT_GOTO: "goto", unix.NFT_RETURN: "return"}
	word := words[int32(v.u32(unix.NFTA_VERDICT_CODE))]
	if chain := v.text(unix.NFTA_VERDICT_CHAIN); chain != "" {
		word += " " + chain
	}
	return word
}

// sayComment writes whose element it is, or the verdict once more.
func (e elementFields) sayComment() string {
	text, ok := userdata.GetString(e.fields[unix.NFTA_SET_ELEM_USERDATA], userdata.TypeComment)
	if !ok {
		return ""
	}
	return fmt.Sprintf(" comment %q", text)
}
