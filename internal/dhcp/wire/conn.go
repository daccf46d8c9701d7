// Package wire speaks DHCPv4, DHCPv6, ARP and router discovery on one link.
//
// Sockets are opened inside the link's namespace and used from anywhere, so that
// no lease takes a thread. An open one keeps the namespace alive: they are
// closed as soon as there is an answer, or none is to be expected.
package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
)

// A Link is where one speaks.
type Link struct {
	Netns bowline.Namespace // that it is in; nil: that of the process
	Name  string
	Index int
	MAC   net.HardwareAddr // frames are sent from
}

// do runs f inside the link's namespace.
func (l Link) do(f func() error) error {
	if l.Netns == nil {
		return f()
	}
	return netns.Do(l.Netns, f)
}

// A conn sends frames to the link, and receives those that its filter lets by.
// It sees them before any rule of a firewall does.
type conn struct {
	file *os.File
	buf  []byte
}

// dial opens a conn for frames of that kind.
func (l Link) dial(ethertype uint16, filter []unix.SockFilter) (*conn, error) {
	fd := -1
	err := l.do(func() (err error) {
		// Of no protocol until the filter is there: nothing else is to queue up.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if filter != nil {
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(ethertype), Ifindex: l.Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind packet socket to link %s: %w", l.Name, err)
	}
	return &conn{os.NewFile(uintptr(fd), "packet socket of "+l.Name), make([]byte, 4096)}, nil
}

func bigEndian(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// closing is held by the one who closes a packet socket, for which the kernel
// waits for a grace period: of fifty at once each would take a thread.
var closing sync.Mutex

// close closes the conn soon, and does not wait for that.
func (c *conn) close() {
	go func() {
		closing.Lock()
		defer closing.Unlock()
		c.file.Close()
	}()
}

func (c *conn) send(frame []byte) error {
	if _, err := c.file.Write(frame); err != nil {
		return fmt.Errorf("send: %w", errors.Unwrap(err))
	}
	return nil
}

// receive hands frames to f until it says that it has what it wants, or until
// the time comes: then it is false without an error. The frame is only good
// until f returns.
func (c *conn) receive(ctx context.Context, until time.Time, f func(frame []byte) (done bool)) (bool, error) {
	_ = c.file.SetReadDeadline(until)
	stop := context.AfterFunc(ctx, func() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		n, err := c.file.Read(c.buf)
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case errors.Is(err, unix.ENETDOWN): // told once; the link may come up again
		case err != nil:
			return false, fmt.Errorf("receive: %w", errors.Unwrap(err))
		case f(c.buf[:n]):
			return true, nil
		}
	}
}

// Filters of packet sockets, in the kernel's classic BPF.

func load(size uint16, at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: at}
}

// unless jumps over the next skip instructions unless the value is k.
func unless(k uint32, skip uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
}

func verdict(bytes uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: bytes}
}

// udp4To lets by what goes to the UDP port by IPv4, in one piece.
func udp4To(port uint32) []unix.SockFilter {
	return []unix.SockFilter{
		load(unix.BPF_H, 12), unless(unix.ETH_P_IP, 8),
		load(unix.BPF_B, ethLen+9), unless(unix.IPPROTO_UDP, 6),
		load(unix.BPF_H, ethLen+6), {Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x1fff, Jt: 4},
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: ethLen},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: ethLen + 2}, unless(port, 1),
		verdict(1 << 16), verdict(0),
	}
}

// advertisements lets by what routers say of themselves.
func advertisements() []unix.SockFilter {
	return []unix.SockFilter{
		load(unix.BPF_H, 12), unless(unix.ETH_P_IPV6, 5),
		load(unix.BPF_B, ethLen+6), unless(unix.IPPROTO_ICMPV6, 3),
		load(unix.BPF_B, ethLen+ip6Len), unless(routerAdvertisement, 1),
		verdict(1 << 16), verdict(0),
	}
}
