package link

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// MoveAs moves the link to another namespace and names it there, in one message,
// so that nobody there sees it under its old name. The link is down then,
// without addresses and routes, and no port of anything; its alias, its MAC and
// its MTU stay (see [Settings] for what does not).
//
// The error wraps [bowline.ErrConflict] if the name is taken there. After an
// error the link may be in either place, under either name: look for its alias.
func (h *Handle) MoveAs(ctx context.Context, index int, to bowline.Namespace, name string) error {
	what := fmt.Sprintf("move link %d to another namespace as %s", index, name)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	m.u32(unix.IFLA_NET_NS_FD, uint32(to.Fd()))
	m.str(unix.IFLA_IFNAME, name)
	return failure(what, h.conn.do(m))
}

// Rename names the link, which must be down. The error wraps
// [bowline.ErrConflict] if the name is taken.
func (h *Handle) Rename(ctx context.Context, index int, name string) error {
	what := fmt.Sprintf("rename link %d to %s", index, name)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	return failure(what, h.conn.do(m))
}

// SetAlias gives the link the alias, which may be empty: then it has none.
func (h *Handle) SetAlias(ctx context.Context, index int, alias string) error {
	what := fmt.Sprintf("set alias of link %d", index)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	m.attr(unix.IFLA_IFALIAS, []byte(alias)) // without a final zero: an empty one removes it
	return failure(what, h.conn.do(m))
}

// Aliased returns the links whose alias is alias.
func (h *Handle) Aliased(ctx context.Context, alias string) ([]Info, error) {
	all, err := h.Links(ctx)
	return slices.DeleteFunc(all, func(l Info) bool { return l.Alias != alias }), err
}

// On returns the names of the links of the handle's namespace that are made on
// top of the link, such as VLANs and macvlans.
func (h *Handle) On(ctx context.Context, index int) ([]string, error) {
	what := fmt.Sprintf("list links on link %d", index)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	var names []string
	err := h.conn.get(m, true, func(body []byte) {
		l, perr := parseLink(body)
		lower, elsewhere := 0, false
		attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
			switch typ {
			case unix.IFLA_LINK:
				lower = int(native32(data))
			case unix.IFLA_LINK_NETNSID:
				elsewhere = true
			}
		})
		// Of a veth it is the peer, which is beside it.
		if perr == nil && lower == index && l.Index != index && !elsewhere && l.Kind != "veth" {
			names = append(names, l.Name)
		}
	})
	return names, failure(what, err)
}

// IsInitial reports whether the handle's namespace is the one that the machine
// booted with, to which the kernel brings back a NIC, but no other link, whose
// namespace ends. Some settings of the whole machine are to be seen in there only.
func (h *Handle) IsInitial(ctx context.Context) (bool, error) {
	_, err := h.Sysctl(ctx, "net/core/dev_weight")
	if errors.Is(err, bowline.ErrNoKernel) {
		return false, nil
	}
	return err == nil, err
}
