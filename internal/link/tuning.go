package link

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// tuningFlags are what t says of the flags of struct ifinfomsg, and which of
// them it says something of.
func tuningFlags(t bowline.Tuning) (flags, change uint32) {
	for _, f := range []struct {
		on  *bool
		bit uint32
	}{{t.Promisc, unix.IFF_PROMISC}, {t.AllMulti, unix.IFF_ALLMULTI}} {
		if f.on != nil {
			change |= f.bit
			if *f.on {
				flags |= f.bit
			}
		}
	}
	return flags, change
}

// Tuning returns how the link of that name is set, with no field nil. The error
// wraps [bowline.ErrUnknown] if there is no such link.
func (h *Handle) Tuning(ctx context.Context, name string) (bowline.Tuning, error) {
	what := "get link " + name
	if err := ctx.Err(); err != nil {
		return bowline.Tuning{}, fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	var promisc, allMulti bool
	qlen := 0
	err := h.conn.get(m, false, func(body []byte) {
		flags := native32(body[8:])
		promisc, allMulti = flags&unix.IFF_PROMISC != 0, flags&unix.IFF_ALLMULTI != 0
		attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
			if typ == unix.IFLA_TXQLEN && len(data) == 4 {
				qlen = int(native32(data))
			}
		})
	})
	return bowline.Tuning{Promisc: &promisc, AllMulti: &allMulti, TxQLen: &qlen}, failure(what, err)
}

// SetTuning sets the link of that name as t says. The error wraps
// [bowline.ErrUnknown] if there is no such link.
func (h *Handle) SetTuning(ctx context.Context, name string, t bowline.Tuning) error {
	what := "tune link " + name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return failure(what, h.conn.do(tuningMessage(name, t)))
}

func tuningMessage(name string, t bowline.Tuning) *msg {
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	flags, change := tuningFlags(t)
	m.ifinfo(unix.AF_UNSPEC, 0, flags, change)
	m.str(unix.IFLA_IFNAME, name)
	if t.TxQLen != nil {
		m.u32(unix.IFLA_TXQLEN, uint32(*t.TxQLen))
	}
	return m
}
