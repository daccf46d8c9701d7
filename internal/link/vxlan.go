package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// From linux/if_link.h.
const (
	vxlanID         = 1  // IFLA_VXLAN_ID
	vxlanLocal      = 4  // IFLA_VXLAN_LOCAL
	vxlanLearning   = 7  // IFLA_VXLAN_LEARNING
	vxlanPort       = 15 // IFLA_VXLAN_PORT, big-endian
	vxlanLocal6     = 17 // IFLA_VXLAN_LOCAL6
	vxlanUDPCsum    = 18 // IFLA_VXLAN_UDP_CSUM
	vxlanNoCsum6TX  = 19 // IFLA_VXLAN_UDP_ZERO_CSUM6_TX
	vxlanNoCsum6RX  = 20 // IFLA_VXLAN_UDP_ZERO_CSUM6_RX
	vxlanIfNameSize = unix.IFNAMSIZ - 1
)

// A VXLAN is this host's end of a tunnel to many. It does not learn from
// traffic: what it knows of others it is told, see [Handle.PutForwards]. Outer UDP
// checksums are zero, for inner ones protect what is inside and NICs are known to
// break the two together; so it takes such packets of IPv6 as well.
type VXLAN struct {
	Name  string
	Alias string
	VNI   uint32
	Local netip.Addr // outer sender address, of the namespace it is made from
	Port  uint16     // UDP, of all ends
	MAC   net.HardwareAddr
	MTU   int // bytes
}

// CreateVXLAN makes the link, down, in the namespace of in from its first moment.
// Its socket is and stays in the handle's namespace. The alias comes last: a link
// that has it is complete.
//
// Choose an MTU 50 bytes below that of an IPv4 underlay, or 70 below that of an
// IPv6 one: packets any larger are dropped, or fragmented.
//
// The error wraps [bowline.ErrConflict] if the name is taken, or the VNI at that
// port by a tunnel of the handle's namespace, and [bowline.ErrNoKernel] if the
// kernel has no VXLAN. After an error both namespaces are as they were.
func (h *Handle) CreateVXLAN(ctx context.Context, in *Handle, v VXLAN) error {
	what := "add vxlan " + v.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(v.Name) == 0 || len(v.Name) > vxlanIfNameSize || !v.Local.IsValid() {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: local=%s: want a name of 1 to %d bytes and an address", what, v.Local, vxlanIfNameSize))
	}
	if err := h.conn.do(v.message(h, in)); err != nil {
		return failure(what, err)
	}
	err := in.leadsToContainers(v.Name)
	if err == nil {
		set := Change{Alias: v.Alias, NoLinkLocal: true}
		err = in.conn.do(set.messages(v.Name)...)
	}
	if err != nil {
		_ = in.delete(v.Name)
	}
	return failure(what, err)
}

func (v VXLAN) message(h, in *Handle) *msg {
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, v.Name)
	if in != h {
		m.u32(unix.IFLA_NET_NS_FD, uint32(in.ns.Fd()))
	}
	if v.MTU != 0 {
		m.u32(unix.IFLA_MTU, uint32(v.MTU))
	}
	if v.MAC != nil {
		m.attr(unix.IFLA_ADDRESS, v.MAC)
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("vxlan"))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.u32(vxlanID, v.VNI)
			if v.Local.Is4() {
				m.attr(vxlanLocal, v.Local.AsSlice())
			} else {
				m.attr(vxlanLocal6, v.Local.AsSlice())
			}
			m.u8(vxlanLearning, 0)
			m.attr(vxlanPort, binary.BigEndian.AppendUint16(nil, v.Port))
			m.u8(vxlanUDPCsum, 0)
			m.u8(vxlanNoCsum6TX, 1)
			m.u8(vxlanNoCsum6RX, 1)
		})
	})
	return m
}

// A SeenVXLAN is a tunnel's end as the kernel has it.
type SeenVXLAN struct {
	VXLAN
	Index int
	Up    bool
	// From is the ID that the handle's namespace has for the one of the socket;
	// -1 if it is the same.
	From     int
	Learning bool
}

// SeeVXLAN returns the link of that name. The error wraps [bowline.ErrUnknown] if
// there is none, and [bowline.ErrConflict] if it is of another kind.
func (h *Handle) SeeVXLAN(ctx context.Context, name string) (SeenVXLAN, error) {
	what := "look at vxlan " + name
	if err := ctx.Err(); err != nil {
		return SeenVXLAN{}, fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	var s SeenVXLAN
	kind := ""
	err := h.conn.get(m, false, func(body []byte) {
		seen := parseSeen(body)
		kind = seen.Kind
		s = SeenVXLAN{
			VXLAN: VXLAN{Name: seen.Name, Alias: seen.Alias, MAC: seen.MAC, MTU: seen.MTU},
			Index: seen.Index, Up: seen.Up, From: seen.Peer,
		}
		within(body[unix.SizeofIfInfomsg:], s.parse, unix.IFLA_LINKINFO, unix.IFLA_INFO_DATA)
	})
	if err == nil && kind != "vxlan" {
		return SeenVXLAN{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("%s: it is of kind %q", what, kind))
	}
	return s, failure(what, err)
}

func (s *SeenVXLAN) parse(typ uint16, data []byte) {
	switch typ {
	case vxlanID:
		s.VNI = native32(data)
	case vxlanLocal, vxlanLocal6:
		s.Local, _ = netip.AddrFromSlice(data)
	case vxlanPort:
		s.Port = binary.BigEndian.Uint16(data)
	case vxlanLearning:
		s.Learning = data[0] != 0
	}
}

// Is reports whether the tunnel is as v says, whether up or not.
func (s SeenVXLAN) Is(v VXLAN) bool {
	same := slices.Equal(s.MAC, v.MAC) && !s.Learning
	s.MAC, v.MAC = nil, nil
	return same && s.Name == v.Name && s.Alias == v.Alias && s.VNI == v.VNI && s.Local == v.Local && s.Port == v.Port && s.MTU == v.MTU
}
