package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// VLANAlias marks the port by which a bridge's own link in a VLAN hangs on it.
const VLANAlias = "bowline vlan port"

// From linux/if_bridge.h.
const (
	bridgeVLANInfo = 2 // IFLA_BRIDGE_VLAN_INFO
	vlanPVID       = 1 << 1
	vlanUntagged   = 1 << 2
	vlanRangeBegin = 1 << 3
	vlanRangeEnd   = 1 << 4
	filterVLAN     = 1 << 1 // RTEXT_FILTER_BRVLAN: list VLANs too
)

// VLANLinkName is the name of the bridge's own link in a VLAN, as the reference
// bridge plugin has it, or a hash where the kernel would find that too long.
func VLANLinkName(bridge string, vlan int) string {
	name := fmt.Sprintf("%s.%d", bridge, vlan)
	if len(name) >= unix.IFNAMSIZ {
		return bowline.LinkName("bwg", name)
	}
	return name
}

// VLANPortName is the other end of the link of that name, the port of the bridge.
func VLANPortName(name string) string { return bowline.LinkName("bwv", name) }

// A VLAN is a range of VLAN IDs, 1 to 4094, on a bridge port.
type VLAN struct {
	Min, Max int
	Untagged bool // leaves the port without a tag, and, unless NotPVID, is what comes in without one
	NotPVID  bool
}

// filtersVLANs returns nil if the bridge filters VLANs. A kernel without the
// feature takes the request and does nothing, so only asking back tells.
func (h *Handle) filtersVLANs(bridge string) error {
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, bridge)
	filters := false
	err := h.conn.get(m, false, func(body []byte) {
		within(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
			filters = filters || typ == unix.IFLA_BR_VLAN_FILTERING && data[0] == 1
		}, unix.IFLA_LINKINFO, unix.IFLA_INFO_DATA)
	})
	if err == nil && !filters {
		return noVLANFiltering()
	}
	return err
}

func noVLANFiltering() error {
	return bowline.Wrong(bowline.ErrNoKernel, "VLAN filtering of bridges is not supported by this kernel (CONFIG_BRIDGE_VLAN_FILTERING)")
}

// EnableVLANFiltering makes the bridge filter VLANs. The error wraps
// [bowline.ErrNoKernel] if the kernel cannot.
func (h *Handle) EnableVLANFiltering(ctx context.Context, bridge string) error {
	what := "filter VLANs on bridge " + bridge
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, bridge)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("bridge"))
		m.nest(unix.IFLA_INFO_DATA, func() { m.u8(unix.IFLA_BR_VLAN_FILTERING, 1) })
	})
	if err := h.conn.do(m); err != nil {
		return failure(what, err)
	}
	if err := h.filtersVLANs(bridge); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// SetPortVLANs makes the VLANs those of the port: VLAN 1, which every new port
// has, goes unless it is among them.
func (h *Handle) SetPortVLANs(ctx context.Context, port string, vlans []VLAN) error {
	what := "set VLANs of port " + port
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	info, err := h.get(port)
	if err != nil {
		return err
	}
	keepsOne := false
	for _, v := range vlans {
		keepsOne = keepsOne || v.Min == 1
		if err := h.conn.do(vlanMessage(unix.RTM_SETLINK, info.Index, v)); err != nil {
			return failure(what, err)
		}
	}
	if keepsOne {
		return nil
	}
	return failure(what, h.conn.do(vlanMessage(unix.RTM_DELLINK, info.Index, VLAN{Min: 1, Max: 1})))
}

// ResetPortVLANs makes the VLANs those of the port, which has those of have,
// and takes away what is too many.
func (h *Handle) ResetPortVLANs(ctx context.Context, port string, have map[int]TagState, vlans []VLAN) error {
	want := Tags(vlans)
	if maps.Equal(have, want) {
		return nil
	}
	info, err := h.Get(ctx, port)
	if err != nil {
		return err
	}
	for id := range have {
		if _, wanted := want[id]; !wanted {
			if err := h.conn.do(vlanMessage(unix.RTM_DELLINK, info.Index, VLAN{Min: id, Max: id})); err != nil {
				return failure(fmt.Sprintf("take VLAN %d from port %s", id, port), err)
			}
		}
	}
	return h.SetPortVLANs(ctx, port, vlans)
}

func vlanMessage(typ uint16, index int, v VLAN) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_BRIDGE, index, 0, 0)
	var flags uint16
	if v.Untagged {
		flags |= vlanUntagged
		if !v.NotPVID {
			flags |= vlanPVID
		}
	}
	info := func(flags uint16, id int) {
		b := binary.NativeEndian.AppendUint16(nil, flags)
		m.attr(bridgeVLANInfo, binary.NativeEndian.AppendUint16(b, uint16(id)))
	}
	m.nest(unix.IFLA_AF_SPEC, func() {
		if v.Min == v.Max {
			info(flags, v.Min)
			return
		}
		info(flags|vlanRangeBegin, v.Min)
		info(flags|vlanRangeEnd, v.Max)
	})
	return m
}

// EnsureVLANLink returns the bridge's own link in the VLAN, and makes it if it
// is not there: a veth whose other end is an untagged port. It does not need
// the kernel's 802.1q links. A link of that name that somebody else made is
// taken as it is. It reports whether it made one.
func (h *Handle) EnsureVLANLink(ctx context.Context, bridge Info, vlan int) (info Info, made bool, err error) {
	name := VLANLinkName(bridge.Name, vlan)
	v := Veth{Name: VLANPortName(name), Alias: VLANAlias, MTU: bridge.MTU, Master: bridge.Index, Peer: name, PeerMAC: bowline.MAC("vlan", name)}
	port, err := h.Get(ctx, v.Name)
	if err == nil && port.Alias == VLANAlias && port.Master != bridge.Index { // its bridge was deleted
		err = h.delete(v.Name)
	}
	if err != nil && !errors.Is(err, bowline.ErrUnknown) {
		return Info{}, false, err
	}
	info, err = h.Get(ctx, name)
	if err == nil || !errors.Is(err, bowline.ErrUnknown) {
		return info, false, err
	}
	err = h.CreateVeth(ctx, v)
	if made = err == nil; !made && !errors.Is(err, bowline.ErrConflict) {
		return Info{}, false, err
	}
	err = h.SetPortVLANs(ctx, v.Name, []VLAN{{Min: vlan, Max: vlan, Untagged: true}})
	if err == nil {
		err = h.Set(ctx, name, Change{Up: true})
	}
	if err == nil {
		info, err = h.Get(ctx, name)
	}
	if err != nil && made {
		_ = h.delete(v.Name)
	}
	return info, made && err == nil, err
}

// VLANLinks returns the links that [Handle.EnsureVLANLink] made for the bridge.
func (h *Handle) VLANLinks(ctx context.Context, bridge Info) ([]Info, error) {
	all, err := h.Links(ctx)
	if err != nil {
		return nil, err
	}
	ports := map[string]bool{}
	for _, l := range all {
		if l.Master == bridge.Index && l.Alias == VLANAlias {
			ports[l.Name] = true
		}
	}
	return slices.DeleteFunc(all, func(l Info) bool { return !ports[VLANPortName(l.Name)] }), nil
}

// A TagState is how a port treats one VLAN.
type TagState struct{ Untagged, PVID bool }

// Tags returns the VLANs one by one, as the kernel keeps them: the PVID is the
// last untagged one that asks to be.
func Tags(vlans []VLAN) map[int]TagState {
	tags := map[int]TagState{}
	for _, v := range vlans {
		for id := v.Min; id <= v.Max; id++ {
			if v.Untagged && !v.NotPVID {
				for other, t := range tags {
					tags[other] = TagState{Untagged: t.Untagged}
				}
			}
			tags[id] = TagState{v.Untagged, v.Untagged && !v.NotPVID}
		}
	}
	return tags
}

// portTags adds the VLANs that the message tells of a port.
func portTags(body []byte, tags map[int]TagState) map[int]TagState {
	if tags == nil {
		tags = map[int]TagState{}
	}
	within(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		if typ != bridgeVLANInfo || len(data) < 4 {
			return
		}
		flags := binary.NativeEndian.Uint16(data)
		tags[int(binary.NativeEndian.Uint16(data[2:]))] = TagState{flags&vlanUntagged != 0, flags&vlanPVID != 0}
	}, unix.IFLA_AF_SPEC)
	return tags
}

// TagText shows VLANs as the bridge command does, in order: 1u is untagged, 1up
// the PVID too.
func TagText(tags map[int]TagState) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(tags)) {
		text := strconv.Itoa(id)
		if tags[id].Untagged {
			text += "u"
		}
		if tags[id].PVID {
			text += "p"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}
