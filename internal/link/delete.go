package link

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func isNoDevice(err error) bool { return errors.Is(err, unix.ENODEV) }

func isExist(err error) bool { return errors.Is(err, unix.EEXIST) }

// Delete removes the link, and with it the peer of a veth and all addresses
// and routes of both. It succeeds if there is none.
//
// Deleting a link waits 10 to 30 ms for the kernel to let go of it after the
// link is gone for everybody. With h.Detach the wait is left to a child
// process: when Delete returns, both ends are gone and their names are free;
// what is left to do happens in the kernel and cannot be interrupted, not even
// by killing the child.
func (h *Handle) Delete(ctx context.Context, name string) error {
	what := "delete link " + name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !h.Detach {
		return failure(what, h.delete(name))
	}
	info, err := h.get(name)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return err
	}
	return failure(what, h.deleteDetached(info.Index))
}

func (h *Handle) delete(name string) error {
	m := newMsg(unix.RTM_DELLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	if err := h.conn.do(m); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func deleteMessage(index int) *msg {
	m := newMsg(unix.RTM_DELLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	return m
}
