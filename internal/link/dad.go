package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// WaitDAD waits until no IPv6 address of the link is tentative. The error wraps
// [bowline.ErrConflict] if an address turned out to be taken, and says so if
// the wait took longer than timeout.
func (h *Handle) WaitDAD(ctx context.Context, index int, timeout time.Duration) error {
	const what = "wait for duplicate address detection"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if h.conn.dry != nil {
		return nil
	}
	var watch int
	err := h.inside(func() (err error) {
		watch, err = linkSocket(unix.RTMGRP_IPV6_IFADDR)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(watch)
	deadline := time.Now().Add(timeout)
	for {
		tentative, failed, err := h.dadState(index)
		if err != nil {
			return failure(what, err)
		}
		if failed {
			return bowline.Wrong(bowline.ErrConflict, what+": an address is in use by somebody else")
		}
		left := time.Until(deadline)
		if !tentative {
			return nil
		}
		if left <= 0 {
			return fmt.Errorf("%s: not done after %s", what, timeout)
		}
		// Each change of an address is announced; what it was is asked anew.
		fds := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if fds[0].Revents != 0 {
			buf := make([]byte, 8192)
			_, _, _ = unix.Recvfrom(watch, buf, unix.MSG_DONTWAIT)
		}
	}
}

func (h *Handle) dadState(index int) (tentative, failed bool, err error) {
	m := newMsg(unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.b = append(m.b, unix.AF_INET6, 0, 0, 0)
	m.u32s(uint32(index))
	err = h.conn.get(m, true, func(body []byte) {
		if len(body) >= unix.SizeofIfAddrmsg && int(native32(body[4:])) == index {
			tentative = tentative || body[2]&unix.IFA_F_TENTATIVE != 0
			failed = failed || body[2]&unix.IFA_F_DADFAILED != 0
		}
	})
	return tentative, failed, err
}
