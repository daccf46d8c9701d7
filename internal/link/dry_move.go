package link

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// moves reports whether the message gives a link another name or namespace.
func (m *msg) moves() bool {
	return m.typ() == unix.RTM_NEWLINK && m.flags()&unix.NLM_F_CREATE == 0 &&
		(m.attr1(unix.IFLA_NET_NS_FD) != nil || native32(m.b[headerLen+4:]) != 0 && m.attr1(unix.IFLA_IFNAME) != nil)
}

// move takes the link to the space that m names, where it is down and has
// another index.
func (s *space) move(c *conn, m *msg, index int) error {
	to, in := s.byFd(native32(m.attr1(unix.IFLA_NET_NS_FD))), c
	if to == nil {
		return unix.EINVAL
	}
	if !to.empty && to != s {
		h, err := to.Dry.openReal(to)
		if err != nil {
			return unix.EPERM
		}
		defer h.Close()
		in = h.conn
	}
	if to.indexOf(in, m.text(unix.IFLA_IFNAME)) != 0 {
		return unix.EEXIST
	}
	for _, body := range s.links(c) {
		if int(native32(body[4:])) != index {
			continue
		}
		body = merged(body, m)
		delete(s.made, index)
		s.gone[index] = true
		s.next++
		binary.NativeEndian.PutUint32(body[4:], uint32(s.next))
		binary.NativeEndian.PutUint32(body[8:], native32(body[8:])&^unix.IFF_UP)
		to.made[s.next] = body
		return nil
	}
	return unix.ENODEV
}
