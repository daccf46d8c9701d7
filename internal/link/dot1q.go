package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Dot1Q is a link that carries one VLAN of its parent (IEEE 802.1Q).
type Dot1Q struct {
	Name   string
	Parent int // index
	VLAN   int // 1 to 4094
	Alias  string
}

// EnsureDot1Q makes the link, up, unless a link of that name is there already;
// then that one is returned as it is. It reports whether it made it. The error
// wraps [bowline.ErrNoKernel] if the kernel was built without 802.1Q.
func (h *Handle) EnsureDot1Q(ctx context.Context, v Dot1Q) (info Info, made bool, err error) {
	what := "add VLAN link " + v.Name
	if err := ctx.Err(); err != nil {
		return Info{}, false, fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, v.Name)
	m.u32(unix.IFLA_LINK, uint32(v.Parent))
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attr(unix.IFLA_INFO_KIND, []byte("vlan"))
		m.nest(unix.IFLA_INFO_DATA, func() { m.attr(1, binary.NativeEndian.AppendUint16(nil, uint16(v.VLAN))) }) // IFLA_VLAN_ID
	})
	err = h.conn.do(m)
	switch {
	case err == nil:
		if err = h.conn.do(Change{Alias: v.Alias, Up: true}.messages(v.Name)...); err != nil {
			_ = h.delete(v.Name)
			return Info{}, false, failure(what, err)
		}
		made = true
	case errors.Is(err, unix.EOPNOTSUPP):
		return Info{}, false, failure(what, bowline.Wrong(bowline.ErrNoKernel, "802.1Q links are not supported by this kernel (CONFIG_VLAN_8021Q)"))
	case !isExist(err):
		return Info{}, false, failure(what, err)
	}
	info, err = h.get(v.Name)
	if made && isNoDevice(err) {
		made = false // somebody took it away at once
	}
	return info, made, err
}
