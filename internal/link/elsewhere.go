package link

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// From linux/net_namespace.h.
const (
	netnsaID = 1 // NETNSA_NSID
	netnsaFD = 3 // NETNSA_FD
)

// A link of a sandbox that has no end in the host is found by the ID that the
// host's namespace has for the sandbox's: the kernel lists, and deletes, links
// of any namespace that has one (Linux 4.20). It keeps the ID as long as the
// namespace lives, and tells a [Monitor] what happens there.

// Identify gives ns an ID in the handle's namespace, unless it has one, and
// returns it.
func (h *Handle) Identify(ctx context.Context, ns bowline.Namespace) (int, error) {
	const what = "identify a namespace"
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	id, err := h.identify(ns)
	return id, failure(what, err)
}

func (h *Handle) identify(ns bowline.Namespace) (int, error) {
	if h.conn.dry != nil {
		return 0, nil
	}
	err := h.conn.do(nsidMessage(unix.RTM_NEWNSID, ns, true))
	if err != nil && !isExist(err) {
		return 0, err
	}
	id := -1
	err = h.conn.get(nsidMessage(unix.RTM_GETNSID, ns, false), false, func(body []byte) {
		if len(body) >= 4 {
			id = nsidOf(body)
		}
	})
	if err == nil && id < 0 {
		err = errors.New("the kernel tells no ID")
	}
	return id, err
}

// nsidMessage is about the ID of ns; choose has the kernel choose one.
func nsidMessage(typ uint16, ns bowline.Namespace, choose bool) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST)
	if typ == unix.RTM_NEWNSID {
		m = newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	}
	m.b = append(m.b, unix.AF_UNSPEC, 0, 0, 0) // struct rtgenmsg
	m.u32(netnsaFD, uint32(ns.Fd()))
	if choose {
		m.u32(netnsaID, 0xffffffff)
	}
	return m
}

func nsidOf(body []byte) int {
	id := -1
	attrs(body[4:], func(typ uint16, data []byte) {
		if typ == netnsaID && len(data) >= 4 {
			id = int(int32(native32(data)))
		}
	})
	return id
}

// Here is the namespace of the handle, where an Elsewhere names one.
const Here = -1

// An Elsewhere is a link of another namespace, or of the handle's own.
type Elsewhere struct {
	Seen
	Counters
	NS int // ID of the namespace, or [Here]
}

// Everywhere returns the links of that kind in the handle's namespace and in all
// that have an ID there. It takes a question for each.
func (h *Handle) Everywhere(ctx context.Context, kind string) ([]Elsewhere, error) {
	what := "list links of kind " + kind + " everywhere"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	ids := []int{Here}
	ask := newMsg(unix.RTM_GETNSID, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask.b = append(ask.b, unix.AF_UNSPEC, 0, 0, 0)
	err := h.conn.get(ask, true, func(body []byte) {
		if id := nsidOf(body); id >= 0 {
			ids = append(ids, id)
		}
	})
	if err != nil {
		return nil, failure(what, err)
	}
	var all []Elsewhere
	for _, id := range ids {
		err := h.conn.get(linksOf(id, kind), true, func(body []byte) {
			if s := parseSeen(body); s.Kind == kind {
				_, c, _ := parseCounters(body)
				all = append(all, Elsewhere{s, c, id})
			}
		})
		if err != nil && !noNamespace(err) {
			return nil, failure(what, err)
		}
	}
	return all, nil
}

// noNamespace reports whether the kernel says that there is no namespace of that
// ID any more.
func noNamespace(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) }

// linksOf asks for the links of a kind in a namespace.
func linksOf(id int, kind string) *msg {
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	if id >= 0 {
		m.u32(unix.IFLA_TARGET_NETNSID, uint32(id))
	}
	m.nest(unix.IFLA_LINKINFO, func() { m.attr(unix.IFLA_INFO_KIND, []byte(kind)) })
	return m
}

// DeleteElsewhere removes the link, and of another namespace waits for its end
// even with h.Detach, for it is announced there only. It succeeds if the link, or
// its namespace, is gone.
func (h *Handle) DeleteElsewhere(ctx context.Context, l Elsewhere) error {
	what := "delete link " + l.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_DELLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m.ifinfo(unix.AF_UNSPEC, l.Index, 0, 0)
	if l.NS >= 0 {
		m.u32(unix.IFLA_TARGET_NETNSID, uint32(l.NS))
	}
	if l.NS < 0 && h.Detach && h.conn.dry == nil {
		return failure(what, h.deleteDetached(m, []int{l.Index}))
	}
	err := h.conn.do(m)
	if l.NS >= 0 && noNamespace(err) {
		return nil
	}
	return failure(what, orGone(err))
}
