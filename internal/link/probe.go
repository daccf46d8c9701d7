package link

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Probe makes a link of the kind, such as "vxlan", and deletes it. Kinds that
// need a parent get a veth as theirs. The namespace should be a throwaway one.
// The error wraps [bowline.ErrNoKernel] if the kernel was built without it.
func (h *Handle) Probe(ctx context.Context, kind string) error {
	const name, parent, peer = "probe0", "probe1", "probe2"
	what := "make a link of kind " + kind
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	switch kind {
	case "macvlan", "ipvlan", "vlan":
		if err := h.CreateVeth(ctx, Veth{Name: parent, Peer: peer}); err != nil {
			return err
		}
		defer func() { _ = h.delete(parent) }()
		info, err := h.get(parent)
		if err != nil {
			return err
		}
		m.u32(unix.IFLA_LINK, uint32(info.Index))
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte(kind))
		m.nest(unix.IFLA_INFO_DATA, func() {
			switch kind { // what the kind cannot do without; attribute 1 each
			case "vxlan": // IFLA_VXLAN_ID
				m.u32(1, 1)
			case "vrf": // IFLA_VRF_TABLE
				m.u32(1, 100)
			case "vlan": // IFLA_VLAN_ID
				m.attr(1, binary.NativeEndian.AppendUint16(nil, 1))
			}
		})
	})
	if err := h.conn.do(m); err != nil {
		return failure(what, err)
	}
	return failure(what, h.delete(name))
}
