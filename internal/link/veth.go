package link

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Veth is a pair of links, one in the handle's namespace and its peer there
// or in a sandbox.
type Veth struct {
	Name    string
	MAC     net.HardwareAddr // of Name; nil: random
	Alias   string           // shown by ip link
	MTU     int              // bytes, of both ends
	Master  int              // index of the bridge that Name becomes a port of, or 0
	Port    *Port            // nil: as the kernel has it
	Peer    string
	PeerMAC net.HardwareAddr
	PeerNS  bowline.Namespace // nil: the handle's own
	Tuning  bowline.Tuning    // of Peer
	Limits  Limits            // of Name
}

// CreateVeth makes the pair, the outer end up and on its bridge, the peer down
// and where it belongs from its first moment: moving it there later would cost
// a grace period of 10 to 30 ms.
//
// The outer end gets no IPv6 link-local address: a bridge port needs none, and
// its announcements would be flooded to every other port. The error wraps
// [bowline.ErrConflict] if one of the names is taken; after an error the
// namespace is as it was.
func (h *Handle) CreateVeth(ctx context.Context, v Veth) error {
	what := fmt.Sprintf("add veth %s with peer %s", v.Name, v.Peer)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := h.conn.do(v.message()); err != nil {
		return failure(what, err)
	}
	set := Change{Alias: v.Alias, NoLinkLocal: true, Port: v.Port, Up: true}
	err := h.limitNew(v)
	if err == nil {
		if err = h.conn.do(set.messages(v.Name)...); err != nil && v.Limits.In.Rate != 0 {
			_ = h.delete(v.Limits.IFB)
		}
	}
	if err != nil {
		_ = h.delete(v.Name)
	}
	return failure(what, err)
}

// limitNew gives the outer end its limits, if any.
func (h *Handle) limitNew(v Veth) error {
	if !v.Limits.any() {
		return nil
	}
	info, err := h.get(v.Name)
	if err != nil {
		return err
	}
	return h.shapeNew(info, v.Limits)
}

func (v Veth) message() *msg {
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, v.Name)
	if v.MTU != 0 {
		m.u32(unix.IFLA_MTU, uint32(v.MTU))
	}
	if v.Master != 0 {
		m.u32(unix.IFLA_MASTER, uint32(v.Master))
	}
	if v.MAC != nil {
		m.attr(unix.IFLA_ADDRESS, v.MAC)
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("veth"))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(1, func() { // VETH_INFO_PEER
				flags, change := tuningFlags(v.Tuning)
				m.ifinfo(unix.AF_UNSPEC, 0, flags, change)
				m.str(unix.IFLA_IFNAME, v.Peer)
				if v.Tuning.TxQLen != nil {
					m.u32(unix.IFLA_TXQLEN, uint32(*v.Tuning.TxQLen))
				}
				if v.MTU != 0 {
					m.u32(unix.IFLA_MTU, uint32(v.MTU))
				}
				if v.PeerMAC != nil {
					m.attr(unix.IFLA_ADDRESS, v.PeerMAC)
				}
				if v.PeerNS != nil {
					m.u32(unix.IFLA_NET_NS_FD, uint32(v.PeerNS.Fd()))
				}
			})
		})
	})
	return m
}

// IsVeth reports whether the pair is there as v says: the same master and
// alias, and the peer by its name where it belongs.
func (h *Handle) IsVeth(ctx context.Context, v Veth) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("compare veth %s: %w", v.Name, err)
	}
	outer, err := h.get(v.Name)
	if err != nil {
		return false, err
	}
	if outer.Kind != "veth" || outer.Alias != v.Alias || v.Master != 0 && outer.Master != v.Master {
		return false, nil
	}
	in := h
	if v.PeerNS != nil {
		if in, err = h.open(v.PeerNS); err != nil {
			return false, err
		}
		defer in.Close()
	}
	inner, err := in.get(v.Peer)
	if isNoDevice(err) {
		return false, nil
	}
	return err == nil && inner.Kind == "veth" && inner.MAC.String() == v.PeerMAC.String(), err
}
