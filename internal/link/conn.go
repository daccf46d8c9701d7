package link

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A conn is an rtnetlink socket that can send several messages in one system
// call: wiring a container is a fixed sequence of them, and each round trip
// saved counts. It belongs to the namespace it was opened in.
type conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
	dry *space // not nil: nothing is sent that changes anything
}

func dial() (*conn, error) { return dialTo(unix.NETLINK_ROUTE) }

// dialTo opens a socket to another of the kernel's families, which speak alike.
func dialTo(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	// Both only improve what comes back: an error text, and a short echo. Old
	// kernels that lack them still answer.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	// Dumps that name an interface then hold that one only (Linux 4.20).
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &conn{fd: fd, buf: make([]byte, 64<<10)}, nil
}

func (c *conn) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
}

// do sends the messages in order and waits for all answers. It returns the
// first error; messages after the failed one have been tried by the kernel too.
func (c *conn) do(ms ...*msg) error {
	if len(ms) == 0 { // the kernel takes nothing for an error
		return nil
	}
	if c.dry != nil {
		return c.dry.do(c, ms)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.seq + 1
	var out []byte
	for _, m := range ms {
		c.seq++
		out = append(out, m.finish(c.seq)...)
	}
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var failed error
	for left := len(ms); left > 0; {
		err := c.receive(first, func(typ uint16, body []byte) bool {
			if typ == unix.NLMSG_ERROR {
				left--
				if err := ackError(body); err != nil && failed == nil {
					failed = err
				}
			}
			return left > 0
		})
		if err != nil {
			return err
		}
	}
	return failed
}

// get asks m and calls f with the body of each answer until the last: the only
// one, or the one before the end of a dump.
func (c *conn) get(m *msg, dump bool, f func(body []byte)) error {
	if c.dry != nil {
		return c.dry.get(c, m, dump, f)
	}
	return c.ask(m, dump, f)
}

// ask is get of the kernel.
func (c *conn) ask(m *msg, dump bool, f func(body []byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	if err := unix.Sendto(c.fd, m.finish(c.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var failed error
	for more := true; more; {
		err := c.receive(c.seq, func(typ uint16, body []byte) bool {
			switch typ {
			case unix.NLMSG_ERROR:
				failed, more = ackError(body), false
			case unix.NLMSG_DONE:
				more = false
			default:
				f(body)
				more = dump
			}
			return more
		})
		if err != nil {
			return err
		}
	}
	return failed
}

// receive reads one datagram and hands on its messages numbered from since on.
func (c *conn) receive(since uint32, f func(typ uint16, body []byte) bool) error {
	var n int
	for {
		var err error
		n, _, err = unix.Recvfrom(c.fd, c.buf, 0)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return fmt.Errorf("read netlink answer: %w", err)
		}
	}
	for b := c.buf[:n]; len(b) >= headerLen; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerLen || size > len(b) {
			return fmt.Errorf("read netlink answer: message of %d bytes in %d", size, len(b))
		}
		if seq := binary.NativeEndian.Uint32(b[8:]); seq >= since {
			f(binary.NativeEndian.Uint16(b[4:]), b[headerLen:size])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

// A kernelError is an errno with the sentence that the kernel gave along
// (NETLINK_EXT_ACK).
type kernelError struct {
	errno unix.Errno
	text  string
}

func (e *kernelError) Error() string {
	if e.text == "" {
		return e.errno.Error()
	}
	return fmt.Sprintf("%s (%s)", e.errno.Error(), e.text)
}

func (e *kernelError) Unwrap() error { return e.errno }

// ackError reads struct nlmsgerr; nil for errno 0.
func ackError(body []byte) error {
	if len(body) < 4+headerLen {
		return unix.EBADMSG
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil
	}
	e := &kernelError{errno: unix.Errno(-code)}
	attrs(body[4+headerLen:], func(typ uint16, data []byte) {
		if typ == 1 { // NLMSGERR_ATTR_MSG
			e.text = unix.ByteSliceToString(data)
		}
	})
	return e
}
