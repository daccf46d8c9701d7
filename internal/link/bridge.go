package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Bridge is a Linux bridge.
type Bridge struct {
	Name          string
	Alias         string // marks the bridge as ours
	MAC           net.HardwareAddr
	MTU           int // bytes
	VLANFiltering bool
	Promisc       bool
}

// EnsureBridge makes the bridge, up, without an address and deaf to router
// advertisements, unless a bridge of that name is there already; then that one is returned as it is. It reports
// whether it made it.
//
// The MAC is set from birth: a bridge without one takes the lowest of its
// ports, and changes it, or loses it, when that port leaves. The MTU is set
// after birth, for only then does the kernel not shrink it to that of a port.
// The error wraps [bowline.ErrConflict] if the name is taken by something else
// and [bowline.ErrNoKernel] if the kernel has no bridges, or no VLAN filtering.
func (h *Handle) EnsureBridge(ctx context.Context, b Bridge) (info Info, made bool, err error) {
	what := "add bridge " + b.Name
	if err := ctx.Err(); err != nil {
		return Info{}, false, fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, b.Name)
	if b.MAC != nil {
		m.attr(unix.IFLA_ADDRESS, b.MAC)
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("bridge"))
		if b.VLANFiltering {
			m.nest(unix.IFLA_INFO_DATA, func() { m.u8(unix.IFLA_BR_VLAN_FILTERING, 1) })
		}
	})
	err = h.conn.do(m)
	if made = err == nil; made {
		set := Change{Alias: b.Alias, MTU: b.MTU, Promisc: b.Promisc, Up: true}
		if err = h.leadsToContainers(b.Name); err == nil {
			err = h.conn.do(set.messages(b.Name)...)
		}
		if err == nil && b.VLANFiltering {
			err = h.filtersVLANs(b.Name)
		}
		if err != nil {
			_ = h.delete(b.Name)
			return Info{}, false, failure(what, err)
		}
	} else if b.VLANFiltering && errors.Is(err, unix.EOPNOTSUPP) {
		return Info{}, false, failure(what, noVLANFiltering())
	} else if !isExist(err) {
		return Info{}, false, failure(what, err)
	}
	if info, err = h.get(b.Name); err != nil {
		return Info{}, false, err
	}
	if info.Kind != "bridge" {
		kind := info.Kind
		if kind == "" {
			kind = "device"
		}
		return Info{}, false, bowline.Wrong(bowline.ErrConflict,
			fmt.Sprintf("add bridge %s: a %s of that name exists already", b.Name, kind))
	}
	return info, made, nil
}

// A Port says how a bridge treats one of its ports.
type Port struct {
	Hairpin  bool // a packet may leave through the port it came in by
	Isolated bool // talks to the bridge and to ports that are not isolated, only
}

func (p *Port) attrs(m *msg) {
	m.attr(unix.IFLA_INFO_SLAVE_KIND, []byte("bridge"))
	m.nest(unix.IFLA_INFO_SLAVE_DATA, func() {
		m.u8(unix.IFLA_BRPORT_MODE, bit(p.Hairpin))
		m.u8(unix.IFLA_BRPORT_ISOLATED, bit(p.Isolated))
	})
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
