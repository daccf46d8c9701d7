package link

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

func isNoDevice(err error) bool { return errors.Is(err, unix.ENODEV) }

func isExist(err error) bool { return errors.Is(err, unix.EEXIST) }

// Delete removes the links of those names, and with each the peer of a veth and
// all addresses and routes. Those that are not there are no error.
//
// Deleting waits 10 to 30 ms for the kernel to let go of a link after it is
// gone for everybody, once for all that are deleted together. With h.Detach the
// wait is left to a child process, or a thread with h.Stays: when Delete returns, all are gone and their
// names are free; what is left to do happens in the kernel and cannot be
// interrupted, not even by killing who waits.
func (h *Handle) Delete(ctx context.Context, names ...string) error {
	return h.DeleteIf(ctx, nil, names...)
}

// DeleteIf is Delete that leaves alone, without an error, links of those names
// that own does not take for the caller's; a nil own takes all.
func (h *Handle) DeleteIf(ctx context.Context, own func(Info) bool, names ...string) error {
	what := "delete link " + strings.Join(names, " and ")
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if h.conn.dry != nil { // together or apart, now or later, is the kernel's matter
		var errs []error
		for _, name := range names {
			errs = append(errs, failure(what, h.delete(name)))
		}
		return errors.Join(errs...)
	}
	if !h.Detach && len(names) == 1 && own == nil {
		return failure(what, h.delete(names[0]))
	}
	var found []int
	for _, name := range names {
		info, err := h.get(name)
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return err
		}
		if own == nil || own(info) {
			found = append(found, info.Index)
		}
	}
	if len(found) == 0 {
		return nil
	}
	request, err := h.deletion(found)
	if err != nil {
		return failure(what, err)
	}
	if h.Detach {
		return failure(what, h.deleteDetached(request, found))
	}
	return failure(what, orGone(h.conn.do(request)))
}

func (h *Handle) delete(name string) error {
	m := newMsg(unix.RTM_DELLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	return orGone(h.conn.do(m))
}

func orGone(err error) error {
	if isNoDevice(err) {
		return nil
	}
	return err
}

// deletion returns the request that deletes the links all at once. The kernel
// takes one link, or a group: several become a group of their own first, named
// by the index of one of them, away from the small numbers that people use.
func (h *Handle) deletion(indexes []int) (*msg, error) {
	m := newMsg(unix.RTM_DELLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if len(indexes) == 1 {
		m.ifinfo(unix.AF_UNSPEC, indexes[0], 0, 0)
		return m, nil
	}
	group := 0x62770000 + uint32(indexes[0]) // "bw"
	var joins []*msg
	for _, index := range indexes {
		j := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		j.ifinfo(unix.AF_UNSPEC, index, 0, 0)
		j.u32(unix.IFLA_GROUP, group)
		joins = append(joins, j)
	}
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.u32(unix.IFLA_GROUP, group)
	return m, orGone(h.conn.do(joins...))
}
