package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// monitorBuffer is how many bytes of events may wait: what a thousand links
// cause that come or go at once.
const monitorBuffer = 4 << 20

// A Monitor is told of changes of links, their limits, addresses and routes.
type Monitor struct {
	file  *os.File
	peers bool
}

// Monitor starts to listen, in the handle's namespace and in all that a link of
// it leads to. What happens from now on is told by [Monitor.Run].
func (h *Handle) Monitor() (*Monitor, error) { return h.monitor(false) }

// MonitorPeers is Monitor that is told of the end of neighbours in the handle's
// namespace, too: what [Handle.EnsurePeer] makes.
func (h *Handle) MonitorPeers() (*Monitor, error) { return h.monitor(true) }

func (h *Handle) monitor(peers bool) (*Monitor, error) {
	const what = "watch links"
	fd := -1
	err := h.inside(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	m := &Monitor{os.NewFile(uintptr(fd), "rtnetlink"), peers}
	if err := subscribe(fd, peers); err != nil {
		m.file.Close()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return m, nil
}

func subscribe(fd int, peers bool) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, monitorBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, monitorBuffer) // as much as there may be
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		return fmt.Errorf("listen to sandboxes: %w", err)
	}
	groups := []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, unix.RTNLGRP_TC,
	}
	if peers {
		groups = append(groups, unix.RTNLGRP_NEIGH)
	}
	for _, group := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			return fmt.Errorf("join group %d: %w", group, err)
		}
	}
	return nil
}

// Run calls changed after each event by which something may have become worse,
// until the monitor is closed or ctx is done; that is no error.
func (m *Monitor) Run(ctx context.Context, changed func(bowline.Event)) error {
	stop := context.AfterFunc(ctx, func() { m.file.Close() })
	defer stop()
	raw, err := m.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	buf, control := make([]byte, 64<<10), make([]byte, 64)
	for {
		var n, cn int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, cn, _, _, rerr = unix.Recvmsg(int(fd), buf, control, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		switch {
		case err != nil: // closed
			return nil
		case errors.Is(rerr, unix.ENOBUFS):
			changed(bowline.Event{Sandbox: -1, All: true})
		case errors.Is(rerr, unix.EINTR):
		case rerr != nil:
			return fmt.Errorf("watch links: %w", rerr)
		default:
			sandbox := sandboxOf(control[:cn])
			if worsens(buf[:n], m.peers && sandbox < 0) {
				changed(bowline.Event{Sandbox: sandbox})
			}
		}
	}
}

// Close ends the monitor.
func (m *Monitor) Close() error { return m.file.Close() }

// sandboxOf returns the ID of the namespace that an event is from, -1 for the
// socket's own.
func sandboxOf(control []byte) int {
	ms, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1
	}
	for _, m := range ms {
		if m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(m.Data) >= 4 {
			return int(int32(native32(m.Data)))
		}
	}
	return -1
}

// worsens reports whether one of the messages tells of something that may be
// missed: addresses and routes that come are not, and routes that routing
// daemons take away are not ours. Of neighbours the end counts, with peers.
func worsens(b []byte, peers bool) bool {
	for len(b) >= headerLen {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerLen || size > len(b) {
			return false
		}
		body := b[headerLen:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_DELADDR, unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF,
			unix.RTM_DELQDISC, unix.RTM_DELTFILTER:
			return true
		case unix.RTM_DELROUTE:
			if len(body) >= unix.SizeofRtMsg && body[7] == unix.RTN_UNICAST && (body[5] <= unix.RTPROT_STATIC || body[5] == ourRoutes) {
				return true
			}
		case unix.RTM_DELNEIGH:
			if peers {
				return true
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false
}
