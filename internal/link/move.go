package link

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
)

// Move moves the link of that name into the namespace to, or that of the calling
// process if to is nil. It arrives down and without addresses. Each move takes a
// grace period of the kernel, 10 to 30 ms. The error wraps [bowline.ErrConflict]
// if there is a link of that name already.
func (h *Handle) Move(ctx context.Context, name string, to bowline.Namespace) error {
	what := "move link " + name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if to == nil {
		own, err := netns.Current() // of this thread, which is not inside another
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		defer own.Close()
		to = own
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	m.u32(unix.IFLA_NET_NS_FD, uint32(to.Fd()))
	return failure(what, h.conn.do(m))
}
