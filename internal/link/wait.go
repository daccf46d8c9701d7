package link

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// WaitCarrier waits until the link of that name can send. The error is that of ctx
// if it ends first.
func (h *Handle) WaitCarrier(ctx context.Context, name string) error {
	if l, err := h.Get(ctx, name); err != nil || l.Carrier {
		return err
	}
	return h.WaitLinks(ctx, func(all []Info) bool {
		return slices.ContainsFunc(all, func(l Info) bool { return l.Name == name && l.Carrier })
	})
}

// WaitLinks waits until done says so of the links of the namespace, and looks
// again whenever one of them changes. The error is that of ctx if it ends first.
func (h *Handle) WaitLinks(ctx context.Context, done func([]Info) bool) error {
	const what = "wait for links"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if h.conn.dry != nil {
		return nil
	}
	watch := -1
	err := h.inside(func() (err error) {
		watch, err = linkSocket(unix.RTMGRP_LINK)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(watch)
	buf := make([]byte, 8192)
	for {
		all, err := h.Links(ctx)
		if err != nil {
			return err
		}
		if done(all) {
			return nil
		}
		// Once a second at least: the end of ctx is no event of the socket.
		fds := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(time.Second.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if fds[0].Revents != 0 {
			_, _, _ = unix.Recvfrom(watch, buf, unix.MSG_DONTWAIT)
		}
	}
}
