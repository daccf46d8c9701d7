package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// From linux/if_link.h.
const (
	macvlanMode     = 1 // IFLA_MACVLAN_MODE
	macvlanMACMode  = 3 // IFLA_MACVLAN_MACADDR_MODE
	macvlanMAC      = 4 // IFLA_MACVLAN_MACADDR
	macvlanMACData  = 5 // IFLA_MACVLAN_MACADDR_DATA
	macvlanMACCount = 6 // IFLA_MACVLAN_MACADDR_COUNT
	macvlanBCQueue  = 7 // IFLA_MACVLAN_BC_QUEUE_LEN
	macvlanBCCutoff = 9 // IFLA_MACVLAN_BC_CUTOFF

	macvlanSetMACs = 3 // MACVLAN_MACADDR_SET
)

// Modes of a macvlan, as ip link names them: whom it hears of those on its
// parent.
const (
	ModePrivate  = "private"
	ModeVEPA     = "vepa"
	ModeBridge   = "bridge"
	ModePassthru = "passthru"
	ModeSource   = "source"
)

// Modes returns all modes.
func Modes() []string {
	return []string{ModeBridge, ModePrivate, ModeVEPA, ModePassthru, ModeSource}
}

func modeBit(mode string) uint32 {
	return map[string]uint32{ModePrivate: 1, ModeVEPA: 2, ModeBridge: 4, ModePassthru: 8, ModeSource: 16}[mode]
}

// A Macvlan is a link with a MAC of its own on a parent, which carries what it
// sends and receives.
type Macvlan struct {
	Name       string
	Parent     int               // index of the parent, in the handle's namespace
	NS         bowline.Namespace // where it goes; nil: the handle's own
	Mode       string
	Sources    []net.HardwareAddr // ModeSource: whose frames it takes
	MAC        net.HardwareAddr   // nil: random, or in ModePassthru the parent's
	Alias      string             // shown by ip link
	MTU        int                // bytes; 0: the parent's
	BCQueueLen int                // broadcasts that may wait; 0: as the kernel has it (Linux 5.11)
	BCLim      *int               // receivers up to which broadcasts do not wait; nil: as the kernel has it (Linux 6.4)
	Tuning     bowline.Tuning
	Quiet      bool // leads to containers: no router is heard, no address is tried
}

// CreateMacvlan makes the link, down, on a parent of the handle's namespace, in
// the namespace of in from its first moment: moving it there later would cost a
// grace period. That one gets an ID in the handle's first, see [Handle.Identify].
// The alias comes last: a link that has it is complete.
//
// The error wraps [bowline.ErrConflict] if the name is taken or if the parent
// has macvlans already and one of the two wants it alone (ModePassthru), and
// [bowline.ErrNoKernel] if the kernel has no macvlans. After an error both
// namespaces are as they were.
func (h *Handle) CreateMacvlan(ctx context.Context, in *Handle, v Macvlan) error {
	what := "add macvlan " + v.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if in != h {
		if _, err := h.identify(in.ns); err != nil {
			return failure(what, err)
		}
	}
	if err := h.conn.do(v.message(h, in)); err != nil {
		return failure(what, v.cause(err))
	}
	var err error
	if v.Quiet {
		err = in.leadsToContainers(v.Name)
	}
	if err == nil {
		err = in.conn.do(v.finish()...)
	}
	if err != nil {
		_ = in.delete(v.Name)
	}
	return failure(what, err)
}

// cause says what the kernel's word means for a macvlan.
func (v Macvlan) cause(err error) error {
	switch {
	case errors.Is(err, unix.EINVAL) && v.Mode == ModePassthru, errors.Is(err, unix.EBUSY), errors.Is(err, unix.EADDRINUSE):
		return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("the parent has other links on it, or another use: %v", err))
	case errors.Is(err, unix.EINVAL):
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("the parent cannot have macvlans, or one in mode passthru has it alone: %v", err))
	}
	return err
}

func (v Macvlan) message(h, in *Handle) *msg {
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, v.Name)
	m.u32(unix.IFLA_LINK, uint32(v.Parent))
	if in != h {
		m.u32(unix.IFLA_NET_NS_FD, uint32(in.ns.Fd()))
	}
	if v.MTU != 0 {
		m.u32(unix.IFLA_MTU, uint32(v.MTU))
	}
	if v.MAC != nil && v.Mode != ModePassthru { // there the kernel gives it the parent's
		m.attr(unix.IFLA_ADDRESS, v.MAC)
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("macvlan"))
		m.nest(unix.IFLA_INFO_DATA, func() { v.data(m) })
	})
	return m
}

// data appends what is of the kind.
func (v Macvlan) data(m *msg) {
	m.u32(macvlanMode, modeBit(v.Mode))
	if v.Mode == ModeSource {
		m.u32(macvlanMACMode, macvlanSetMACs)
		m.nest(macvlanMACData, func() {
			for _, mac := range v.Sources {
				m.attr(macvlanMAC, mac)
			}
		})
	}
	if v.BCQueueLen != 0 {
		m.u32(macvlanBCQueue, uint32(v.BCQueueLen))
	}
	if v.BCLim != nil {
		m.u32(macvlanBCCutoff, uint32(int32(*v.BCLim)))
	}
}

// finish sets what the kernel takes after birth only.
func (v Macvlan) finish() []*msg {
	var ms []*msg
	if v.Tuning != (bowline.Tuning{}) {
		ms = append(ms, tuningMessage(v.Name, v.Tuning))
	}
	c := Change{Alias: v.Alias}
	if v.Mode == ModePassthru {
		c.MAC = v.MAC
	}
	return append(ms, c.messages(v.Name)...)
}

// SetMacvlan makes mode, sources, queue and limit of a macvlan of the handle's
// namespace those of v, as far as the kernel lets them be changed.
func (h *Handle) SetMacvlan(ctx context.Context, v Macvlan) error {
	what := "set macvlan " + v.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, v.Name)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("macvlan"))
		m.nest(unix.IFLA_INFO_DATA, func() { v.data(m) })
	})
	return failure(what, h.conn.do(m))
}

// parseMacvlan reads what is of the kind into s.
func (s *Seen) parseMacvlan(data []byte) {
	attrs(data, func(typ uint16, data []byte) {
		switch typ {
		case macvlanMode:
			for _, mode := range Modes() {
				if native32(data) == modeBit(mode) {
					s.Mode = mode
				}
			}
		case macvlanMACData:
			attrs(data, func(_ uint16, mac []byte) { s.Sources = append(s.Sources, slices.Clone(mac)) })
		case macvlanBCQueue:
			s.BCQueueLen = int(native32(data))
		case macvlanBCCutoff:
			s.BCLim = int(int32(binary.NativeEndian.Uint32(data)))
		}
	})
}
