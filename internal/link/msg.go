package link

import "encoding/binary"

// A msg is a netlink message under construction (man 7 netlink, rtnetlink).
type msg struct {
	b []byte
}

const (
	headerLen = 16
	attrLen   = 4
)

func newMsg(typ, flags uint16) *msg {
	m := &msg{make([]byte, headerLen, 256)}
	binary.NativeEndian.PutUint16(m.b[4:], typ)
	binary.NativeEndian.PutUint16(m.b[6:], flags)
	return m
}

// ifinfo appends struct ifinfomsg.
func (m *msg) ifinfo(family uint8, index int, flags, change uint32) {
	m.b = append(m.b, family, 0, 0, 0)
	m.u32s(uint32(index), flags, change)
}

func (m *msg) u32s(vs ...uint32) {
	for _, v := range vs {
		m.b = binary.NativeEndian.AppendUint32(m.b, v)
	}
}

func (m *msg) attr(typ uint16, data []byte) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(attrLen+len(data)))
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = append(m.b, data...)
	m.pad()
}

func (m *msg) str(typ uint16, s string) { m.attr(typ, append([]byte(s), 0)) }

func (m *msg) u8(typ uint16, v uint8) { m.attr(typ, []byte{v}) }

func (m *msg) u32(typ uint16, v uint32) {
	m.attr(typ, binary.NativeEndian.AppendUint32(nil, v))
}

// nest appends an attribute whose content is what fill appends.
func (m *msg) nest(typ uint16, fill func()) {
	start := len(m.b)
	m.b = binary.NativeEndian.AppendUint16(m.b, 0)
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	fill()
	binary.NativeEndian.PutUint16(m.b[start:], uint16(len(m.b)-start))
	m.pad()
}

func (m *msg) pad() {
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

// finish sets length and sequence number and returns the bytes.
func (m *msg) finish(seq uint32) []byte {
	binary.NativeEndian.PutUint32(m.b, uint32(len(m.b)))
	binary.NativeEndian.PutUint32(m.b[8:], seq)
	return m.b
}

// attrs calls f with each attribute of b; types come without flag bits.
func attrs(b []byte, f func(typ uint16, data []byte)) {
	for len(b) >= attrLen {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrLen || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[attrLen:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// within calls f with each attribute found by descending path in b.
func within(b []byte, f func(typ uint16, data []byte), path ...uint16) {
	attrs(b, func(typ uint16, data []byte) {
		switch {
		case len(path) == 0:
			f(typ, data)
		case typ == path[0]:
			within(data, f, path[1:]...)
		}
	})
}
