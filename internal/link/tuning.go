package link

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Tuning is how a link is set apart from what it is.
type Tuning struct {
	Promisc  bool
	AllMulti bool
	TxQLen   *int // packets; nil: as the kernel has it
}

// flags are those of struct ifinfomsg.
func (t Tuning) flags() uint32 {
	var f uint32
	if t.Promisc {
		f |= unix.IFF_PROMISC
	}
	if t.AllMulti {
		f |= unix.IFF_ALLMULTI
	}
	return f
}

// Tuning returns how the link of that name is set.
func (h *Handle) Tuning(ctx context.Context, name string) (Tuning, error) {
	what := "get link " + name
	if err := ctx.Err(); err != nil {
		return Tuning{}, fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	var t Tuning
	err := h.conn.get(m, false, func(body []byte) {
		flags, qlen := native32(body[8:]), 0
		t.Promisc, t.AllMulti = flags&unix.IFF_PROMISC != 0, flags&unix.IFF_ALLMULTI != 0
		attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
			if typ == unix.IFLA_TXQLEN && len(data) == 4 {
				qlen = int(native32(data))
			}
		})
		t.TxQLen = &qlen
	})
	return t, failure(what, err)
}
