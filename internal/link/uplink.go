package link

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// Uplink returns the link of h by which frames of the link name of inside go on
// to the LAN: of a veth the bridge that its other end is a port of, or else that
// end; of a macvlan, an ipvlan or a VLAN its parent. inside may be h itself. The
// error wraps [bowline.ErrUnknown] if h has none such.
func (h *Handle) Uplink(ctx context.Context, inside *Handle, name string) (Info, error) {
	what := "find the link behind " + name
	if err := ctx.Err(); err != nil {
		return Info{}, fmt.Errorf("%s: %w", what, err)
	}
	in, err := inside.get(name)
	if err != nil {
		return Info{}, err
	}
	behind, err := inside.lower(in.Index)
	if err != nil {
		return Info{}, failure(what, err)
	}
	all, err := h.Links(ctx)
	if err != nil {
		return Info{}, err
	}
	byIndex := map[int]Info{}
	for _, l := range all {
		byIndex[l.Index] = l
	}
	out, ok := byIndex[behind]
	switch in.Kind {
	case "veth":
		// Both ends know each other, or it is another link with that number.
		if back, err := h.lower(behind); !ok || err != nil || out.Kind != "veth" || back != in.Index {
			ok = false
		} else if bridge, is := byIndex[out.Master]; is {
			out = bridge
		}
	case "macvlan", "macvtap", "ipvlan", "vlan":
	default:
		ok = false
	}
	if !ok {
		return Info{}, bowline.Wrong(bowline.ErrUnknown, what+": not found")
	}
	return out, nil
}

// lower returns the index of the link that the one with index stands on, or is
// the other end of; 0: none. It may be in another namespace.
func (h *Handle) lower(index int) (lower int, err error) {
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	err = h.conn.get(m, false, func(body []byte) {
		if len(body) < unix.SizeofIfInfomsg {
			return
		}
		attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
			if typ == unix.IFLA_LINK && len(data) == 4 {
				lower = int(native32(data))
			}
		})
	})
	return lower, err
}
