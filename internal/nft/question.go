package nft

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// question asks what the library cannot, on its socket, and returns the
// attributes of the answer, nil if there is no such thing.
func (h *Handle) question(typ uint16, t *nftables.Table, attributes ...[]byte) (answer []byte, err error) {
	const head = unix.NLMSG_HDRLEN + 4
	got, err := h.exchange(message(unix.NFNL_SUBSYS_NFTABLES<<8|typ, 0, append([][]byte{{byte(t.Family), unix.NFNETLINK_V0, 0, 0}}, attributes...)...))
	if len(got) >= head && err == nil {
		answer = got[head:]
	}
	if err == unix.ENOENT || h.dry != nil && err == unix.EPERM {
		err = nil
	}
	return answer, err
}

// askElement asks for one element.
func (h *Handle) askElement(s *nftables.Set, key []byte) (answer []byte, err error) {
	nested := func(typ uint16, data []byte) []byte { return attribute(typ|unix.NLA_F_NESTED, data) }
	return h.question(unix.NFT_MSG_GETSETELEM, s.Table,
		attribute(unix.NFTA_SET_ELEM_LIST_TABLE, []byte(s.Table.Name+"\x00")),
		attribute(unix.NFTA_SET_ELEM_LIST_SET, []byte(s.Name+"\x00")),
		nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nested(unix.NFTA_LIST_ELEM, nested(unix.NFTA_SET_ELEM_KEY, attribute(unix.NFTA_DATA_VALUE, key)))))
}

// message is a request of that type.
func message(typ, flags uint16, body ...[]byte) []byte {
	data := slices.Concat(body...)
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(data)))
	m = binary.NativeEndian.AppendUint16(m, typ)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST|flags)
	return append(append(m, make([]byte, 8)...), data...)
}

// exchange sends messages that have one answer and returns it, nothing of one
// that only says that all went well. The kernel has answered when sending returns.
func (h *Handle) exchange(messages ...[]byte) (answer []byte, err error) {
	if h.raw == nil { // a dry handle that asks nobody
		return nil, nil
	}
	cerr := h.raw.Control(func(fd uintptr) {
		if err = unix.Sendto(int(fd), slices.Concat(messages...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return
		}
		buf := make([]byte, 4096)
		var size int
		if size, _, err = unix.Recvfrom(int(fd), buf, 0); err != nil || size < unix.NLMSG_HDRLEN+4 {
			return
		}
		if binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
			answer = buf[:size]
			return
		}
		if errno := unix.Errno(-int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:]))); errno != 0 {
			err = errno
		}
	})
	if cerr != nil {
		err = errors.Join(err, cerr)
	}
	return answer, err
}

func attribute(typ uint16, data []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(unix.NLA_HDRLEN+len(data)))
	a = append(binary.NativeEndian.AppendUint16(a, typ), data...)
	return append(a, make([]byte, -len(a)&3)...)
}
