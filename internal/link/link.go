// Package link makes and reads links, addresses and routes of one namespace.
// It is the only room that speaks rtnetlink.
//
// A Handle is bound to the namespace it was opened in and can be used from any
// thread. Every verb asks its context once, so a suite can break a caller at
// each of its steps.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
)

// A Handle works on the links of one namespace.
type Handle struct {
	conn   *conn
	ns     bowline.Namespace // nil: the namespace of the process
	Detach bool              // Delete does not wait for the kernel's last grace period, see [Handle.Delete]
	Stays  bool              // the process goes on after a detached Delete, so a thread of it waits instead of a child
	// Keep, if set, returns a file that the child of a detached Delete holds
	// open to its end, or -1: one whose closing waits, too.
	Keep func() int
}

// Open opens the namespace ns, or that of the calling process if ns is nil. ns
// must stay open as long as the handle.
func Open(ns bowline.Namespace) (*Handle, error) {
	h := &Handle{ns: ns}
	err := h.inside(func() (err error) {
		h.conn, err = dial()
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// In opens the namespace ns as h is open: a handle that changes nothing opens
// such a one.
func (h *Handle) In(ns bowline.Namespace) (*Handle, error) {
	if dry := h.conn.dry; dry != nil && dry.find(ns) == nil {
		dry.Space("sandbox", ns, false)
	}
	in, err := h.open(ns)
	if err == nil {
		in.Detach, in.Stays, in.Keep = h.Detach, h.Stays, h.Keep
	}
	return in, err
}

// OpenHere opens the namespace of the calling thread, for use inside netns.Do
// and no longer than that.
func OpenHere() (*Handle, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	return &Handle{conn: c}, nil
}

// Close releases the handle; links stay.
func (h *Handle) Close() { h.conn.close() }

// inside runs f on a thread in the handle's namespace.
func (h *Handle) inside(f func() error) error {
	if h.ns == nil {
		return f()
	}
	return netns.Do(h.ns, f)
}

// An Info is what the kernel says of a link.
type Info struct {
	Name   string
	Index  int
	Kind   string // "veth", "bridge", ...; empty for a NIC
	MAC    net.HardwareAddr
	MTU    int // bytes
	Master int // index of the bridge that it is a port of, or 0
	Alias  string
	Up     bool // administratively
	// Carrier says that the link can send: it is up, there is somebody at the
	// other end, and a bridge there has taken note of that.
	Carrier bool
	// Judged says that the kernel has looked whether the link can send. It does so
	// some time after it was made, and after each change; a bridge at the other
	// end opens and closes its port by what it found.
	Judged bool
}

// Get returns the link of that name. The error wraps [bowline.ErrUnknown] if
// there is none.
func (h *Handle) Get(ctx context.Context, name string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, fmt.Errorf("get link %s: %w", name, err)
	}
	return h.get(name)
}

func (h *Handle) get(name string) (Info, error) {
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	var info Info
	var perr error
	err := h.conn.get(m, false, func(body []byte) { info, perr = parseLink(body) })
	if err = errors.Join(err, perr); err != nil {
		return Info{}, failure("get link "+name, err)
	}
	return info, nil
}

// Links returns all links in the order of their indexes.
func (h *Handle) Links(ctx context.Context) ([]Info, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	var all []Info
	var perr error
	err := h.conn.get(m, true, func(body []byte) {
		info, err := parseLink(body)
		if err != nil {
			perr = err
			return
		}
		all = append(all, info)
	})
	if err = errors.Join(err, perr); err != nil {
		return nil, failure("list links", err)
	}
	return all, nil
}

// Names returns the names of all links but the loopback, sorted.
func (h *Handle) Names(ctx context.Context) ([]string, error) {
	all, err := h.Links(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range all {
		if l.Name != "lo" {
			names = append(names, l.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func parseLink(body []byte) (Info, error) {
	l, err := netlink.LinkDeserialize(nil, body)
	if err != nil {
		return Info{}, err
	}
	a := l.Attrs()
	kind := l.Type()
	if kind == "device" {
		kind = ""
	}
	// The library's address is a part of body, which the next answer overwrites.
	return Info{a.Name, a.Index, kind, slices.Clone(a.HardwareAddr), a.MTU, a.MasterIndex, a.Alias, a.Flags&net.FlagUp != 0, a.RawFlags&unix.IFF_RUNNING != 0, a.OperState != netlink.OperUnknown}, nil
}

// A Change is what [Handle.Set] changes on a link; zero fields stay as they are.
type Change struct {
	Alias    string
	MTU      int // bytes
	MAC      net.HardwareAddr
	Up, Down bool
	// NoLinkLocal keeps the kernel from making an IPv6 link-local address.
	NoLinkLocal bool
	// ARPNotify announces IPv4 addresses when the link comes up.
	ARPNotify bool
	Port      *Port // of a bridge port
	Promisc   bool
	Master    int // index of the bridge that the link becomes a port of
}

// Set changes the link of that name.
func (h *Handle) Set(ctx context.Context, name string, c Change) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("set link %s: %w", name, err)
	}
	return failure("set link "+name, h.conn.do(c.messages(name)...))
}

// messages returns one message for what must be true before the link comes
// up, and one that brings it up or down: the kernel handles the flags of a
// message before its address-family part.
func (c Change) messages(name string) []*msg {
	var ms []*msg
	if c.Master != 0 { // first: the kernel takes what is for a port from ports only
		m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
		m.str(unix.IFLA_IFNAME, name)
		m.u32(unix.IFLA_MASTER, uint32(c.Master))
		ms = append(ms, m)
	}
	if c.Alias != "" || c.MTU != 0 || c.MAC != nil || c.NoLinkLocal || c.ARPNotify || c.Port != nil || c.Promisc {
		m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		var flags uint32
		if c.Promisc {
			flags = unix.IFF_PROMISC
		}
		m.ifinfo(unix.AF_UNSPEC, 0, flags, flags)
		m.str(unix.IFLA_IFNAME, name)
		c.attrs(m)
		ms = append(ms, m)
	}
	if c.Up || c.Down {
		m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		var flags uint32
		if c.Up {
			flags = unix.IFF_UP
		}
		m.ifinfo(unix.AF_UNSPEC, 0, flags, unix.IFF_UP)
		m.str(unix.IFLA_IFNAME, name)
		ms = append(ms, m)
	}
	return ms
}

func (c Change) attrs(m *msg) {
	if c.Alias != "" {
		m.attr(unix.IFLA_IFALIAS, []byte(c.Alias))
	}
	if c.MTU != 0 {
		m.u32(unix.IFLA_MTU, uint32(c.MTU))
	}
	if c.MAC != nil {
		m.attr(unix.IFLA_ADDRESS, c.MAC)
	}
	if c.Port != nil {
		m.nest(unix.IFLA_LINKINFO, func() { c.Port.attrs(m) })
	}
	if c.NoLinkLocal || c.ARPNotify {
		m.nest(unix.IFLA_AF_SPEC, func() {
			if c.NoLinkLocal {
				m.nest(unix.AF_INET6, func() { m.u8(8, 1) }) // IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
			}
			if c.ARPNotify {
				m.nest(unix.AF_INET, func() {
					m.nest(1, func() { m.u32(22, 1) }) // IFLA_INET_CONF, IPV4_DEVCONF_ARP_NOTIFY
				})
			}
		})
	}
}
