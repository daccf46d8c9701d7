package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Listener is a socket that waits for strangers: TCP and SCTP that listen,
// UDP that is not connected.
type Listener struct {
	Addr netip.Addr // that it is bound to; unspecified: all of its family
	Both bool       // all of IPv4 too
	Port uint16

	inode uint32
}

// Takes reports whether the socket gets what is sent to addr; the unspecified
// address asks for any address of that family.
func (l Listener) Takes(addr netip.Addr) bool {
	switch {
	case l.Addr.Is4() != addr.Is4():
		return l.Both && addr.Is4()
	case l.Addr.IsUnspecified() || addr.IsUnspecified():
		return true
	}
	return l.Addr == addr
}

// Listeners returns the namespace's listeners of the protocol, such as
// IPPROTO_TCP, at the ports first to last. Those of IPv4 are with v4, those of
// IPv6 alone with v6. It asks the kernel once for each of its families, which
// takes some 30 µs on a quiet machine.
func (h *Handle) Listeners(ctx context.Context, protocol uint8, v4, v6 bool, first, last uint16) ([]Listener, error) {
	what := fmt.Sprintf("list listeners at ports %d to %d", first, last)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var c *conn
	err := h.inside(func() (err error) {
		c, err = dialTo(unix.NETLINK_INET_DIAG)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer c.close()
	families := []uint8{unix.AF_INET6} // whose sockets may take IPv4 as well
	if v4 {
		families = append(families, unix.AF_INET)
	}
	var found []Listener
	for _, f := range families {
		err := c.get(diagMessage(f, protocol, first, last), true, func(body []byte) {
			if l, ok := parseListener(body); ok && (v6 || l.Addr.Is4() || l.Both) {
				found = append(found, l)
			}
		})
		// ENOENT: nobody can have a socket of a protocol that the kernel lacks.
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	return found, nil
}

// What the kernel's headers linux/sock_diag.h and linux/inet_diag.h say.
const (
	sockDiagByFamily = 20
	diagBytecode     = 1 // INET_DIAG_REQ_BYTECODE
	diagSourceGE     = 2 // INET_DIAG_BC_S_GE
	diagSourceLE     = 3
	diagV6Only       = 11 // INET_DIAG_SKV6ONLY
	stateClose       = 7  // TCP_CLOSE: what UDP calls unconnected
	stateListen      = 10
	sizeofDiagMsg    = 72
)

func diagMessage(family, protocol uint8, first, last uint16) *msg {
	state := uint32(1 << stateListen)
	if protocol == unix.IPPROTO_UDP {
		state = 1 << stateClose
	}
	// struct inet_diag_req_v2: family, protocol, extensions, padding, states and
	// the socket's ID, which a dump does not look at.
	m := newMsg(sockDiagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.b = append(m.b, family, protocol, 0, 0)
	m.u32s(state)
	m.b = append(m.b, make([]byte, 48)...)
	// A program of two instructions: each has where to go on, from itself, if it
	// holds and if not; beyond the end is no.
	var program []byte
	for _, i := range []struct {
		code, yes uint8
		no, port  uint16
	}{{diagSourceGE, 8, 20, first}, {diagSourceLE, 8, 12, last}} {
		program = append(program, i.code, i.yes)
		program = binary.NativeEndian.AppendUint16(program, i.no)
		program = append(program, 0, 0)
		program = binary.NativeEndian.AppendUint16(program, i.port)
	}
	m.attr(diagBytecode, program)
	return m
}

// parseListener reads struct inet_diag_msg.
func parseListener(b []byte) (Listener, bool) {
	if len(b) < sizeofDiagMsg {
		return Listener{}, false
	}
	l := Listener{Port: binary.BigEndian.Uint16(b[4:]), inode: binary.NativeEndian.Uint32(b[68:])}
	if b[0] == unix.AF_INET {
		l.Addr = netip.AddrFrom4([4]byte(b[8:12]))
		return l, true
	}
	addr := netip.AddrFrom16([16]byte(b[8:24]))
	l.Addr, l.Both = addr.Unmap(), addr.IsUnspecified()
	attrs(b[sizeofDiagMsg:], func(typ uint16, data []byte) {
		if typ == diagV6Only && len(data) == 1 && data[0] != 0 {
			l.Both = false
		}
	})
	return l, true
}

// Process returns the process that has the socket open, and its name, or 0 if
// it cannot be found. It looks through /proc, for messages to people only.
func (l Listener) Process() (pid int, name string) {
	want := fmt.Sprintf("socket:[%d]", l.inode)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		fds, _ := os.ReadDir(dir + "/fd") // the process may have ended
		for _, fd := range fds {
			if to, err := os.Readlink(dir + "/fd/" + fd.Name()); err == nil && to == want {
				pid, _ = strconv.Atoi(filepath.Base(dir))
				comm, _ := os.ReadFile(dir + "/comm")
				return pid, strings.TrimSpace(string(comm))
			}
		}
	}
	return 0, ""
}

// IsOf reports whether the socket is open in a process of that name that was
// started with arg among its arguments. It looks through /proc, too.
func (l Listener) IsOf(name, arg string) bool {
	pid, comm := l.Process()
	if pid == 0 || comm != name {
		return false
	}
	argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
	return slices.Contains(strings.Split(string(argv), "\x00"), arg)
}
