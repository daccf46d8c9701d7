package nft

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	todo "github.com/bowline-net/bowline/internal/plan"
)

// OpenDry returns a handle that changes nothing: its transactions are written
// to p, in the words of nft. It reads the tables of ns.
func OpenDry(ns bowline.Namespace, p *todo.Plan) *Handle {
	return &Handle{ns: ns, dry: &dry{plan: p, where: host, sets: map[setName]keyType{}}}
}

// dry stands between the library and the kernel: questions pass, transactions
// are written down and answered as the kernel would.
type dry struct {
	plan  *todo.Plan
	where string
	real  *netlink.Conn       // nil: not opened yet, or not allowed
	deaf  bool                // we may not even ask, or there is nobody to be asked
	sets  map[setName]keyType // that would have been made, and those looked up
}

// keyType is the types of a set's keys and data, as the kernel keeps them.
type keyType struct{ key, data uint32 }

// host is where all would be that is not in a sandbox.
const host = "host"

// dial returns the library's end.
func (d *dry) dial(h *Handle) (*nftables.Conn, error) {
	if d.deaf {
		return nftables.New(nftables.AsLasting(), nftables.WithTestDial(d.answer))
	}
	cfg := &netlink.Config{}
	if h.ns != nil {
		cfg.NetNS = int(h.ns.Fd())
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, cfg)
	if err != nil {
		return nil, err
	}
	d.real = c
	if h.raw, err = c.SyscallConn(); err != nil { // for what the library cannot ask
		return nil, err
	}
	return nftables.New(nftables.AsLasting(), nftables.WithTestDial(d.answer))
}

// answer is what the library gets for what it sends, or, for nil, when it waits
// for more.
func (d *dry) answer(req []netlink.Message) ([]netlink.Message, error) {
	if len(req) == 0 {
		return reply(0), nil
	}
	if req[0].Header.Type != unix.NFNL_MSG_BATCH_BEGIN {
		return d.ask(req[0])
	}
	changes := req[1 : len(req)-1]
	if errno := d.refuses(changes); errno != 0 {
		return reply(errno), nil
	}
	for _, m := range changes {
		d.plan.Add(todo.Nft, d.where, "%s", d.say(m))
	}
	return reply(0), nil
}

func reply(errno unix.Errno) []netlink.Message {
	data := binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno)))
	return []netlink.Message{{Header: netlink.Header{Type: netlink.Error}, Data: append(data, make([]byte, unix.NLMSG_HDRLEN)...)}}
}

// ask asks the kernel.
func (d *dry) ask(m netlink.Message) ([]netlink.Message, error) {
	if d.deaf {
		return d.silence(m)
	}
	asked := m.Header
	m.Header.Sequence, m.Header.PID = 0, 0 // numbered by the other connection
	m.Header.Flags &^= netlink.Acknowledge // what the library waits for, answer gives
	got, err := d.real.Execute(m)
	if errors.Is(err, unix.EPERM) {
		d.deaf = true
		d.plan.Add(todo.Note, d.where, "nftables cannot be read without privileges: the plan is that without any rules")
		return d.silence(m)
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return nil, errno
	}
	for i := range got { // they are one answer now
		got[i].Header.Flags &^= netlink.Multi
		got[i].Header.Sequence, got[i].Header.PID = asked.Sequence, asked.PID
	}
	if err == nil && len(got) == 0 {
		err = io.EOF
	}
	return got, err
}

// silence is the answer if nothing is there.
func (d *dry) silence(m netlink.Message) ([]netlink.Message, error) {
	if m.Header.Flags&netlink.Dump == netlink.Dump {
		return nil, io.EOF
	}
	return nil, unix.ENOENT
}

// refuses returns why the kernel would not take the transaction, 0 if it would.
// It knows what our code waits for: sets that are not there, elements that are
// gone, and elements that mean something else.
func (d *dry) refuses(changes []netlink.Message) unix.Errno {
	for _, m := range changes {
		switch kind := uint16(m.Header.Type) & 0xff; kind {
		case unix.NFT_MSG_NEWSET:
			a := attributes(m.Data)
			d.sets[setNameOf(m)] = keyType{a.u32(unix.NFTA_SET_KEY_TYPE), a.u32(unix.NFTA_SET_DATA_TYPE)}
		case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
			name := setNameOf(m)
			there, is := d.lookUp(name)
			if _, planned := d.sets[name]; !planned && !is {
				return unix.ENOENT
			}
			if !is {
				continue
			}
			d.sets[name] = there
			if errno := d.compare(m, kind == unix.NFT_MSG_DELSETELEM); errno != 0 {
				return errno
			}
		}
	}
	return 0
}

// lookUp asks the kernel for a set's types.
func (d *dry) lookUp(name setName) (t keyType, ok bool) {
	m := question(unix.NFT_MSG_GETSET, name.family, attribute(unix.NFTA_SET_TABLE, []byte(Table+"\x00")), attribute(unix.NFTA_SET_NAME, []byte(name.name+"\x00")))
	got, err := d.ask(m)
	if err != nil || len(got) == 0 || got[0].Header.Type == netlink.Error {
		return t, false
	}
	a := attributes(got[0].Data)
	return keyType{a.u32(unix.NFTA_SET_KEY_TYPE), a.u32(unix.NFTA_SET_DATA_TYPE)}, true
}

func question(kind uint16, family nftables.TableFamily, attrs ...[]byte) netlink.Message {
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request},
		Data:   []byte{byte(family), unix.NFNETLINK_V0, 0, 0},
	}
	for _, a := range attrs {
		m.Data = append(m.Data, a...)
	}
	return m
}

// compare looks for the message's elements among those that are there.
func (d *dry) compare(m netlink.Message, deletes bool) unix.Errno {
	t := d.sets[setNameOf(m)]
	for _, e := range elementsOf(m) {
		if e.end() {
			continue
		}
		q := question(unix.NFT_MSG_GETSETELEM, setNameOf(m).family, attribute(unix.NFTA_SET_ELEM_LIST_TABLE, []byte(Table+"\x00")),
			attribute(unix.NFTA_SET_ELEM_LIST_SET, []byte(setNameOf(m).name+"\x00")),
			attribute(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, attribute(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, e.asked())))
		got, err := d.ask(q)
		there := err == nil && len(got) > 0 && got[0].Header.Type != netlink.Error
		switch {
		case deletes && !there:
			return unix.ENOENT
		case deletes || !there:
			continue
		}
		for _, have := range elementsOf(got[0]) {
			if have.sayData(t) != e.sayData(t) {
				return unix.EEXIST
			}
		}
	}
	return 0
}
