package nft

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Port is a port of the host that leads to an endpoint, or a row of them.
type Port struct {
	Host     netip.Addr // the unspecified address of a family: all that are local
	First    uint16
	Count    int
	Protocol byte           // IPPROTO_TCP and the like
	To       netip.AddrPort // where the first leads; the others follow
}

// Last is the row's last port.
func (p Port) Last() uint16 { return p.First + uint16(p.Count-1) }

// Overlaps reports whether a packet can be for both.
func (p Port) Overlaps(q Port) bool {
	return p.Protocol == q.Protocol && p.Host.Is4() == q.Host.Is4() && p.First <= q.Last() && q.First <= p.Last() &&
		(p.Host == q.Host || p.Host.IsUnspecified() || q.Host.IsUnspecified())
}

// String returns the host's side, such as 192.0.2.1:8000-8009/tcp.
func (p Port) String() string {
	ports := fmt.Sprint(p.First)
	if p.Count > 1 {
		ports = fmt.Sprintf("%d-%d", p.First, p.Last())
	}
	protocol := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.Protocol]
	switch {
	case p.Host.IsUnspecified():
		return ports + "/" + protocol
	case p.Host.Is6():
		return "[" + p.Host.String() + "]:" + ports + "/" + protocol
	}
	return p.Host.String() + ":" + ports + "/" + protocol
}

// Publishing is how the ports of a network are published.
type Publishing struct {
	Pools []bowline.Pool // of the network, each with its gateway
	// SNAT hides senders that the endpoint could not answer: itself, others of
	// its network, and the host's loopback.
	SNAT    bool
	MasqAll bool // hides all senders
	// Conditions4 and Conditions6 are what a packet must meet, all of them.
	Conditions4, Conditions6 []Condition
	// RespectInput leads only whom the host's own firewall would let in.
	RespectInput bool
}

// A TakenError says who has a port already. It is a [bowline.ErrConflict].
type TakenError struct {
	Port              Port
	Network, Endpoint string // the holder's, as far as a comment has room for them
	Link              string // the host end of the holder's veth
	tag               string // that the holder's comments begin with
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("port %s is taken: it leads to endpoint %q of network %q", e.Port, e.Endpoint, e.Network)
}

func (e *TakenError) Unwrap() error { return bowline.ErrConflict }

// wide is the row from which on ports are one element of port-row. Deleting one
// from there takes the longer the more there are (3 ms at a thousand): shorter
// rows are hashed, port by port.
const wide = 33

func (f family) port() *nftables.Set {
	return f.portMap("port", concat(f.addr, nftables.TypeInetService), nftables.TypeInetProto, nftables.TypeInetService)
}
func (f family) portAt() *nftables.Set {
	return f.portMap("port-at", concat(f.addr, nftables.TypeInetService), f.addr, nftables.TypeInetProto, nftables.TypeInetService)
}
func (f family) portRow() *nftables.Set {
	s := f.portMap("port-row", f.addr, f.addr, nftables.TypeInetProto, nftables.TypeInetService)
	s.Interval = true
	return s
}
func (f family) portMap(name string, data nftables.SetDatatype, key ...nftables.SetDatatype) *nftables.Set {
	s := set(f.table, name, concat(key...))
	s.IsMap, s.DataType = true, data
	return s
}

// portOwner says whose port is whose. The kernel refuses an interval that
// overlaps another one of it, and a second owner of the same: that decides
// between any number of processes. Sets of several fields are not so strict,
// so the key is one field that is wide enough, read as an IPv6 address:
// protocol, port, and the host's address or all of them. The owner is the name
// of a link, read as an address too: the nft command cannot show a name there.
func (f family) portOwner() *nftables.Set {
	s := set(f.table, "port-owner", nftables.TypeIP6Addr)
	s.IsMap, s.DataType, s.Interval = true, nftables.TypeIP6Addr, true
	return s
}

// portUser holds the endpoints that have ports, by their link.
func (f family) portUser() *nftables.Set { return set(f.table, "port-user", nftables.TypeIFName) }

// portGate holds ports that not everybody may use.
func (f family) portGate() *nftables.Set {
	s := verdictMap(f.table, "port-gate", concat(f.addr, nftables.TypeInetProto, nftables.TypeInetService))
	s.Interval = true
	return s
}

// portSets are those whose elements are the endpoints' own.
func (f family) portSets() []*nftables.Set {
	return []*nftables.Set{f.port(), f.portAt(), f.portRow(), f.portGate(), f.portAsks(), f.portUser()}
}

// servicePort is a key's protocol and port.
func servicePort(protocol byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{protocol, 0, 0, 0}, port), 0, 0)
}

func addrPort(a netip.AddrPort) []byte {
	return append(binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port()), 0, 0)
}

// at is the key of a port at the host's addresses from lo to hi.
func (p Port) at() (lo, hi []byte) {
	lo = p.Host.AsSlice()
	hi = slices.Clone(lo)
	if p.Host.IsUnspecified() {
		hi = bytes.Repeat([]byte{0xff}, len(lo))
	}
	return append(lo, servicePort(p.Protocol, p.First)...), append(hi, servicePort(p.Protocol, p.Last())...)
}

// owned returns the intervals of port-owner that the row takes: one, or one for
// each port if they are those of one address. The end is the key after the last.
//
// No two owners' intervals end alike, for of two that overlap and do the kernel
// would take both: it looks for others between the ends of a new interval, but
// not if there is an end like its own already.
func (p Port) owned(owner string) (intervals [][2][]byte) {
	key := func(port uint16, addr []byte) []byte {
		k := make([]byte, 16)
		k[1] = p.Protocol
		binary.BigEndian.PutUint16(k[2:], port)
		copy(k[16-len(addr):], addr)
		return k
	}
	if p.Host.IsUnspecified() {
		d := sha256.Sum256([]byte(owner))
		copy(d[:], []byte{0xff, 0xff}) // behind all addresses
		return [][2][]byte{{key(p.First, nil), key(p.Last(), d[:12])}}
	}
	addr := p.Host.AsSlice()
	if p.Host.Is6() { // there is no room for all of it
		d := sha256.Sum256(addr)
		d[0] &= 0x7f
		addr = d[:12]
	}
	for i := range p.Count {
		k := key(p.First+uint16(i), addr)
		intervals = append(intervals, [2][]byte{k, next(k)})
	}
	return intervals
}

// next is the key after k.
func next(k []byte) []byte {
	k = slices.Clone(k)
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			break
		}
	}
	return k
}

// portElements are the endpoint's own that lead ports to it.
func (e Endpoint) portElements(n Network) []element {
	var es []element
	for _, f := range []family{ipv4(), ipv6()} {
		ports := slices.DeleteFunc(slices.Clone(e.Ports), func(p Port) bool { return p.Host.BitLen() != int(f.size)*8 })
		if len(ports) == 0 {
			continue
		}
		s, who := f.ownPorts(n), comments(n.ID, e.ID)
		for _, p := range ports {
			es = append(es, s.elements(p, who, e.Port)...)
		}
		es = append(es, element{s.user, nftables.SetElement{Key: name16(e.Port), Comment: who}})
	}
	return es
}

// ownPorts are the sets that a port is told to, and where its gate leads.
type ownPorts struct {
	port, at, row, owner, gate, asks, user *nftables.Set
	through                                string // empty: no gate
	input                                  bool
}

func (f family) ownPorts(n Network) ownPorts {
	return ownPorts{
		f.port(), f.portAt(), f.portRow(), f.portOwner(), f.portGate(), f.portAsks(), f.portUser(),
		n.Publishing.gate(f).name(), n.Publishing.RespectInput,
	}
}

func (s ownPorts) elements(p Port, who, owner string) []element {
	var es []element
	for _, i := range p.owned(owner) {
		es = append(es, element{s.owner, nftables.SetElement{Key: i[0], Val: name16(owner), Comment: who}},
			element{s.owner, nftables.SetElement{Key: i[1], IntervalEnd: true}})
	}
	lo, hi := p.at()
	row := func(s *nftables.Set) nftables.SetElement {
		return nftables.SetElement{Key: lo, KeyEnd: hi, Comment: who}
	}
	if s.through != "" {
		e := row(s.gate)
		e.VerdictData = verdict(expr.VerdictGoto, s.through)
		es = append(es, element{s.gate, e})
	}
	if s.input {
		es = append(es, element{s.asks, row(s.asks)})
	}
	if p.Count >= wide && p.First == p.To.Port() {
		e := row(s.row)
		e.Val = p.To.Addr().AsSlice()
		return append(es, element{s.row, e})
	}
	if p.Count >= wide {
		who, _, _ = strings.Cut(who, " ") // there can be thousands
	}
	for i := range uint16(p.Count) {
		e := nftables.SetElement{
			Key: servicePort(p.Protocol, p.First+i), Val: addrPort(netip.AddrPortFrom(p.To.Addr(), p.To.Port()+i)), Comment: who,
		}
		to := s.port
		if !p.Host.IsUnspecified() {
			to, e.Key = s.at, append(p.Host.AsSlice(), e.Key...)
		}
		es = append(es, element{to, e})
	}
	return es
}
