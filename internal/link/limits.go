package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// Limits are those of a link of the host, in both directions.
//
// What leaves by the link waits in a queue of its own. What comes in cannot
// wait there, so it is led through an ifb, a link that sends what it is given
// back to where it came from, and waits at that. The ifb does not go with the
// link: delete both.
type Limits struct {
	Out, In Bucket
	IFB     string // name of the ifb
	Alias   string // of the ifb
}

func (l Limits) any() bool { return l.Out.Rate != 0 || l.In.Rate != 0 }

// A shape is Limits as the kernel has them, or is to have them.
type shape struct{ out, in tbf }

func (l Limits) on(mtu int) shape { return shape{l.Out.on(mtu), l.In.on(mtu)} }

// Limit makes the limits of the link those of l, in place of any that it had,
// and deletes the ifb if nothing needs it. A limit that is there is changed in
// its place. The error wraps [bowline.ErrNoKernel] if the kernel lacks what it
// takes.
func (h *Handle) Limit(ctx context.Context, name string, l Limits) error {
	what := "limit link " + name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	info, err := h.get(name)
	if err != nil {
		return err
	}
	have, err := h.shape(info, l)
	if err != nil {
		return failure(what, err)
	}
	return failure(what, h.reshape(info, l, have))
}

// reshape brings the link from what it has to what l says.
func (h *Handle) reshape(info Info, l Limits, have shape) error {
	want := l.on(info.MTU)
	var err error
	switch {
	case have.out.same(want.out):
	case !want.out.none():
		err = h.setTBF(info.Index, want.out, have.out)
	default:
		err = h.conn.do(qdiscMessage(unix.RTM_DELQDISC, 0, info.Index, rootHandle, rootParent, 0))
	}
	switch {
	case err != nil:
		return err
	case want.in.none():
		return errors.Join(h.release(info.Index), h.delete(l.IFB))
	case have.in.same(want.in):
		return nil
	}
	ifb, made, err := h.ensureIFB(l, info.MTU)
	if err != nil {
		return err
	}
	err = h.setTBF(ifb.Index, want.in, have.in)
	if err == nil {
		err = h.conn.do(Change{Alias: l.Alias, NoLinkLocal: true, Up: true}.messages(l.IFB)...)
	}
	if err == nil && have.in.none() {
		err = h.redirect(info.Index, ifb.Index)
	}
	if err != nil && made {
		_ = h.delete(l.IFB)
	}
	return err
}

// setTBF makes the token bucket the root of the link. One that is there is
// changed; anything else is not ours, and gives way: the kernel would not
// replace it where it has our handle.
func (h *Handle) setTBF(index int, want, have tbf) error {
	if have.none() {
		err := h.conn.do(qdiscMessage(unix.RTM_DELQDISC, 0, index, 0, rootParent, 0))
		if err != nil && !noneThere(err) {
			return err
		}
	}
	return missing(h.conn.do(want.message(index)))
}

// shapeNew is reshape for a link that nobody knows yet: it is as quick as can
// be, for it is a part of every ADD with limits. Both links must be down still:
// the kernel waits for a grace period where it takes the queue from one that is
// up.
func (h *Handle) shapeNew(info Info, l Limits) error {
	want := l.on(info.MTU)
	var ms []*msg
	if !want.out.none() {
		ms = append(ms, want.out.message(info.Index))
	}
	made := false
	if !want.in.none() {
		var ifb Info
		var err error
		if ifb, made, err = h.ensureIFB(l, info.MTU); err != nil {
			return err
		}
		ms = append(ms, l.ifbMessages(ifb, want.in)...)
		ms = append(ms, ingressMessage(info.Index), redirectMessage(info.Index, ifb.Index))
	}
	err := missing(h.conn.do(ms...))
	if err != nil && made {
		_ = h.delete(l.IFB)
	}
	return err
}

// ifbMessages make the ifb what it is to be, and up.
func (l Limits) ifbMessages(ifb Info, t tbf) []*msg {
	ms := []*msg{t.message(ifb.Index)}
	return append(ms, Change{Alias: l.Alias, NoLinkLocal: true, Up: true}.messages(l.IFB)...)
}

// redirect leads what comes in by the link to the other one, beside the filters
// that somebody else may have there.
func (h *Handle) redirect(index, to int) error {
	err := h.conn.do(unredirectMessage(index))
	if err != nil && !noneThere(err) {
		return err
	}
	if err := h.conn.do(ingressMessage(index)); err != nil && h.kindAt(index, ingressParent) == "" {
		return missing(err)
	}
	return missing(h.conn.do(redirectMessage(index, to)))
}

// release takes back what redirect made, and the place for filters if it was
// the last.
func (h *Handle) release(index int) error {
	err := h.conn.do(unredirectMessage(index))
	if noneThere(err) {
		return nil // there was none of ours
	}
	if err != nil || h.kindAt(index, ingressParent) != "ingress" {
		return err
	}
	left := 0
	err = h.conn.get(qdiscMessage(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, index, 0, filterParent, 0), true, func([]byte) { left++ })
	if err != nil || left > 0 {
		return err
	}
	return h.conn.do(qdiscMessage(unix.RTM_DELQDISC, 0, index, ingressHandle, ingressParent, 0))
}

// kindAt returns the kind of the qdisc there, "" if there is none.
func (h *Handle) kindAt(index int, parent uint32) (kind string) {
	_ = h.conn.get(qdiscMessage(unix.RTM_GETQDISC, unix.NLM_F_ECHO, index, 0, parent, 0), false, func(body []byte) { kind = kindOf(body) })
	return kind
}

// missing says that the kernel knows no qdisc, filter or action of that kind.
func missing(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return bowline.Wrong(bowline.ErrNoKernel, fmt.Sprintf("%v: want a kernel with sch_tbf, sch_ingress, cls_u32, act_mirred and ifb", err))
	}
	return err
}

// ensureIFB makes the ifb, down, unless it is there. It reports whether it made
// it.
func (h *Handle) ensureIFB(l Limits, mtu int) (info Info, made bool, err error) {
	m := newMsg(unix.RTM_NEWLINK, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, l.IFB)
	m.u32(unix.IFLA_MTU, uint32(mtu))
	m.nest(unix.IFLA_LINKINFO, func() { m.attr(unix.IFLA_INFO_KIND, []byte("ifb")) })
	err = h.conn.do(m)
	made = err == nil
	if !made && !isExist(err) {
		return Info{}, false, err
	}
	info, err = h.get(l.IFB)
	switch {
	case err != nil:
	case info.Kind != "ifb":
		err = bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("link %s: it exists already and is not an ifb", l.IFB))
	case info.Alias != "" && info.Alias != l.Alias:
		err = bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("link %s: it exists already and is somebody else's, with alias %q", l.IFB, info.Alias))
	}
	return info, made, err
}

// CheckLimits returns how the limits of the link differ from l. A limit of
// which a part is missing is none.
func (h *Handle) CheckLimits(ctx context.Context, name string, l Limits) ([]bowline.Difference, error) {
	what := "get limits of link " + name
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	info, err := h.get(name)
	if err != nil {
		return nil, err
	}
	have, err := h.shape(info, l)
	if err != nil {
		return nil, failure(what, err)
	}
	want := l.on(info.MTU)
	var ds []bowline.Difference
	if !have.out.same(want.out) {
		ds = append(ds, bowline.Difference{Place: "link " + name, Key: "limit out", Have: have.out.String(), Want: want.out.String()})
	}
	if !have.in.same(want.in) {
		ds = append(ds, bowline.Difference{Place: "link " + name, Key: "limit in", Have: have.in.String(), Want: want.in.String()})
	}
	return ds, nil
}

// shape returns what the link has.
func (h *Handle) shape(info Info, l Limits) (s shape, err error) {
	if s.out, err = h.tbf(info.Index); err != nil {
		return s, err
	}
	ifb, err := h.get(l.IFB)
	if isNoDevice(err) {
		return s, nil
	}
	if err != nil || !ifb.Up || ifb.Kind != "ifb" {
		return s, err
	}
	to, err := h.redirected(info.Index)
	if err != nil || to != ifb.Index {
		return s, err
	}
	s.in, err = h.tbf(ifb.Index)
	return s, err
}

// tbf returns the token bucket at the root of the link, if there is one.
func (h *Handle) tbf(index int) (t tbf, err error) {
	m := qdiscMessage(unix.RTM_GETQDISC, unix.NLM_F_ECHO, index, 0, rootParent, 0)
	err = h.conn.get(m, false, func(body []byte) {
		if len(body) < tcmsgLen || native32(body[8:]) != rootHandle || kindOf(body) != "tbf" {
			return
		}
		within(body[tcmsgLen:], func(typ uint16, data []byte) {
			switch {
			case typ == tbfParms && len(data) >= 36:
				t = tbf{rate: max(t.rate, uint64(native32(data[8:]))), queue: native32(data[24:]), ticks: native32(data[28:])}
			case typ == tbfRate64 && len(data) == 8:
				t.rate = binary.NativeEndian.Uint64(data)
			}
		}, unix.TCA_OPTIONS)
	})
	if noneThere(err) {
		return tbf{}, nil
	}
	return t, err
}

// redirected returns the index of the link that our filter leads to what comes
// in by the link, or 0.
func (h *Handle) redirected(index int) (to int, err error) {
	m := qdiscMessage(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, index, 0, filterParent, 0)
	err = h.conn.get(m, true, func(body []byte) {
		if len(body) < tcmsgLen || int(native32(body[4:])) != index || kindOf(body) != "u32" {
			return
		}
		within(body[tcmsgLen:], func(typ uint16, data []byte) {
			if typ == mirredParms && len(data) >= 28 && native32(data[20:]) == redirect {
				to = int(native32(data[24:]))
			}
		}, unix.TCA_OPTIONS, u32Act, 1, actOptions)
	})
	if noneThere(err) {
		return 0, nil
	}
	return to, err
}

// kindOf returns the kind that an answer with struct tcmsg names.
func kindOf(body []byte) (kind string) {
	attrs(body[tcmsgLen:], func(typ uint16, data []byte) {
		if typ == unix.TCA_KIND {
			kind = unix.ByteSliceToString(data)
		}
	})
	return kind
}

// noneThere reports whether the kernel says that there is no such qdisc, or one
// of its own that it does not show.
func noneThere(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) }
