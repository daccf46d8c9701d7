package link

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/plan"
)

// A Dry opens handles that change nothing: what they would send to the kernel
// they write down. They read what is there, and what they would have made, as
// far as drivers look at it again: links and their addresses.
type Dry struct {
	Plan *plan.Plan

	mu     sync.Mutex
	spaces []*space
	next   int // index of the next link that is made
}

// NewDry returns a Dry that writes to p.
func NewDry(p *plan.Plan) *Dry { return &Dry{Plan: p, next: 1 << 24} }

// A space is one namespace, and what would have been changed there.
type space struct {
	*Dry
	name  string
	ns    bowline.Namespace // nil: that of the process
	empty bool              // there is nothing but what is made
	made  map[int][]byte    // links by index, as the kernel would tell of them
	set   map[int][]*msg    // changes of links that are there
	gone  map[int]bool
	addrs map[int][][]byte // addresses by link, as the kernel would tell of them
	ctls  map[string]string
}

// Space says what messages and handles call the namespace, nil for that of the
// process. An empty one need not be what ns is: nothing in it is read.
func (d *Dry) Space(name string, ns bowline.Namespace, empty bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spaces = append(d.spaces, &space{
		Dry: d, name: name, ns: ns, empty: empty, made: map[int][]byte{}, set: map[int][]*msg{}, gone: map[int]bool{},
		addrs: map[int][][]byte{}, ctls: map[string]string{},
	})
}

// Open returns a handle on a namespace that Space has named.
func (d *Dry) Open(ns bowline.Namespace) (*Handle, error) {
	s := d.find(ns)
	if s == nil {
		return nil, fmt.Errorf("%w: a namespace that the plan has no name for", bowline.ErrUnknown)
	}
	h := &Handle{ns: ns}
	if s.empty {
		h.conn = &conn{fd: -1}
	} else if err := h.inside(func() (err error) {
		h.conn, err = dial()
		return err
	}); err != nil {
		return nil, err
	}
	h.conn.dry = s
	return h, nil
}

// open opens another namespace as h is open.
func (h *Handle) open(ns bowline.Namespace) (*Handle, error) {
	if h.conn.dry != nil {
		return h.conn.dry.Open(ns)
	}
	return Open(ns)
}

func (d *Dry) find(ns bowline.Namespace) *space {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ns != nil {
		return d.byFd(uint32(ns.Fd()))
	}
	for _, s := range d.spaces {
		if s.ns == nil {
			return s
		}
	}
	return nil
}

// byFd returns the space of the namespace that a descriptor is of. Several may be
// of one: of a sandbox that is not there it is the one with that descriptor.
func (d *Dry) byFd(fd uint32) *space {
	for _, s := range d.spaces {
		if s.ns != nil && uint32(s.ns.Fd()) == fd {
			return s
		}
	}
	if fd == 0 {
		return nil
	}
	want := inode(fmt.Sprintf("/proc/self/fd/%d", fd))
	for _, s := range d.spaces {
		path := "/proc/thread-self/ns/net"
		if s.ns != nil {
			path = fmt.Sprintf("/proc/self/fd/%d", s.ns.Fd())
		}
		if !s.empty && want != 0 && inode(path) == want {
			return s
		}
	}
	return nil
}

func inode(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// do writes the messages down, as far as the kernel would have taken them.
func (s *space) do(c *conn, ms []*msg) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	for _, m := range ms {
		said := ""
		if m.moves() { // afterwards it has another name, or is somewhere else
			said = s.say(c, m)
		}
		err := s.apply(c, m)
		if err == nil {
			if said == "" {
				said = s.say(c, m)
			}
			s.Plan.Add(plan.Link, s.name, "%s", said)
		} else if failed == nil {
			failed = &kernelError{errno: err.(unix.Errno)}
		}
	}
	return failed
}

// apply keeps what later questions ask for. Its errors are unix.Errno.
func (s *space) apply(c *conn, m *msg) error {
	switch m.typ() {
	case unix.RTM_NEWLINK:
		return s.newLink(c, m)
	case unix.RTM_DELLINK:
		if m.b[headerLen] == unix.AF_BRIDGE || m.attr1(unix.IFLA_TARGET_NETNSID) != nil {
			return nil
		}
		index := s.target(c, m)
		if index == 0 && m.attr1(unix.IFLA_GROUP) == nil {
			return unix.ENODEV
		}
		delete(s.made, index)
		s.gone[index] = true
	case unix.RTM_NEWADDR:
		index, p := int(native32(m.b[headerLen+4:])), addrOf(m.b[headerLen:])
		for _, have := range s.addrsAt(c, index) {
			if addrOf(have) == p {
				return unix.EEXIST
			}
		}
		s.addrs[index] = append(s.addrs[index], append([]byte{}, m.b[headerLen:]...))
	case unix.RTM_NEWROUTE:
		return s.newRoute(c, m)
	}
	return nil
}

func addrOf(body []byte) string {
	p, _, _ := parseAddr(body)
	return p.String()
}

func (s *space) addrsAt(c *conn, index int) [][]byte {
	all := s.addrs[index]
	if !s.empty && s.made[index] == nil {
		m := newMsg(unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		m.b = append(m.b, unix.AF_UNSPEC, 0, 0, 0)
		m.u32s(uint32(index))
		_ = c.ask(m, true, func(body []byte) { all = append(all, append([]byte{}, body...)) })
	}
	return all
}

// newLink is RTM_NEWLINK: it makes a link and the peer that it names, or
// changes one.
func (s *space) newLink(c *conn, m *msg) error {
	name := m.text(unix.IFLA_IFNAME)
	if m.flags()&unix.NLM_F_CREATE == 0 {
		index := s.target(c, m)
		switch {
		case index == 0:
			return unix.ENODEV
		case m.attr1(unix.IFLA_NET_NS_FD) != nil:
			return s.move(c, m, index)
		case m.moves() && s.indexOf(c, name) != 0 && s.indexOf(c, name) != index:
			return unix.EEXIST
		case s.made[index] != nil:
			s.made[index] = merged(s.made[index], m)
		default:
			s.set[index] = append(s.set[index], m)
		}
		return nil
	}
	if s.indexOf(c, name) != 0 {
		return unix.EEXIST
	}
	var peer *space
	var peerBody []byte
	within(m.b[headerLen+unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		if typ != 1 || len(data) < unix.SizeofIfInfomsg || m.kind() != "veth" { // VETH_INFO_PEER
			return
		}
		peer, peerBody = s, data
		attrs(data[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
			if typ == unix.IFLA_NET_NS_FD {
				peer = s.byFd(native32(data))
			}
		})
	}, unix.IFLA_LINKINFO, unix.IFLA_INFO_DATA)
	if to := s.byFd(fdOf(m)); to != nil { // made there, on a link of here
		if to.indexOf(c, name) != 0 {
			return unix.EEXIST
		}
		to.keep(m.b[headerLen:], m.kind(), m)
		return nil
	}
	if peer != nil {
		in := c
		if peer != s && !peer.empty {
			h, err := peer.Dry.openReal(peer)
			if err != nil {
				return unix.EPERM
			}
			defer h.Close()
			in = h.conn
		}
		if peer.indexOf(in, nameOf(peerBody)) != 0 {
			return unix.EEXIST
		}
		peer.keep(peerBody, "veth", nil)
	}
	s.keep(m.b[headerLen:], m.kind(), m)
	return nil
}

// fdOf returns the descriptor of the namespace that a new link goes to, 0 if it
// stays.
func fdOf(m *msg) uint32 {
	if data := m.attr1(unix.IFLA_NET_NS_FD); len(data) == 4 {
		return native32(data)
	}
	return 0
}

// openReal opens the space for reading, without its lock.
func (d *Dry) openReal(s *space) (h *Handle, err error) {
	h = &Handle{ns: s.ns}
	err = h.inside(func() (err error) {
		h.conn, err = dial()
		return err
	})
	return h, err
}

// keep remembers a new link as the kernel would tell of it.
func (s *space) keep(body []byte, kind string, m *msg) {
	s.next++
	made := newMsg(unix.RTM_NEWLINK, 0)
	made.ifinfo(unix.AF_UNSPEC, s.next, native32(body[8:]), 0)
	mtu := false
	attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		mtu = mtu || typ == unix.IFLA_MTU
		if typ != unix.IFLA_LINKINFO && typ != unix.IFLA_NET_NS_FD {
			made.attr(typ, data)
		}
	})
	if !mtu {
		made.u32(unix.IFLA_MTU, 1500)
	}
	made.nest(unix.IFLA_LINKINFO, func() {
		made.str(unix.IFLA_INFO_KIND, kind)
		if m == nil || kind == "veth" {
			return
		}
		within(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
			if typ == unix.IFLA_INFO_DATA {
				made.attr(typ, data)
			}
		}, unix.IFLA_LINKINFO)
	})
	s.made[s.next] = made.b[headerLen:]
}

// merged returns what the kernel would tell of a link after the change m.
func merged(body []byte, m *msg) []byte {
	out := &msg{append([]byte{}, body...)}
	in := m.b[headerLen:]
	flags, change := native32(in[8:]), native32(in[12:])
	binary.NativeEndian.PutUint32(out.b[8:], native32(body[8:])&^change|flags&change)
	attrs(in[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_LINKINFO, unix.IFLA_AF_SPEC, unix.IFLA_NET_NS_FD:
		case unix.IFLA_IFNAME:
			if native32(in[4:]) != 0 { // else it says which link is meant
				out.str(typ, cString(data))
			}
		case unix.IFLA_IFALIAS:
			out.str(typ, cString(data)) // the kernel ends it, whoever asks need not
		default:
			out.attr(typ, data)
		}
	})
	return out.b
}

// newRoute is RTM_NEWROUTE: a second one to the same place is refused.
func (s *space) newRoute(c *conn, m *msg) error {
	want, ok := parseRoute(m.b[headerLen:])
	if s.empty || !ok || m.flags()&unix.NLM_F_EXCL == 0 {
		return nil
	}
	ask := newMsg(unix.RTM_GETROUTE, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask.b = append(ask.b, m.b[headerLen], 0, 0, 0, 0, 0, 0, 0)
	ask.u32s(0)
	var err error
	_ = c.ask(ask, true, func(body []byte) {
		if have, ok := parseRoute(body); ok && have.Dst == want.Dst && *have.Table == *want.Table && have.Priority == want.Priority {
			err = unix.EEXIST
		}
	})
	return err
}
