package nft

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// ReplacePorts leads e.Ports to the endpoint in place of all that did before,
// in one transaction: nobody sees anything between. Errors are as in
// [Handle.EnsureEndpoint]; after one, what led there before still does.
func (h *Handle) ReplacePorts(ctx context.Context, n Network, e Endpoint) error {
	what := fmt.Sprintf("publish ports of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	unlock, err := h.lock(unix.LOCK_SH)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	err = failure(what, h.with(func(c *nftables.Conn) error {
		err := h.replacePorts(c, n, e, func() {})
		for try := 0; errors.Is(err, unix.ENOENT) && try < 100; try++ { // a set is not there, or the old went meanwhile
			err = h.replacePorts(c, n, e, func() {
				n.setUp(c)
				e.setUpPorts(c, n)
			})
		}
		return err
	}))
	return h.explain(what, e, err)
}

// DeletePorts ends that ports lead to the endpoint. If e says which ones that
// takes one transaction; else they are found by comment. It succeeds if there is
// none.
func (h *Handle) DeletePorts(ctx context.Context, n Network, e Endpoint) error {
	what := fmt.Sprintf("end published ports of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err := h.deletePorts(n, e)
	if errors.Is(err, unix.EPERM) { // what only another process may change holds nothing of ours
		e.Unsure = true
		err = h.deletePorts(n, e)
	}
	return failure(what, err)
}

func (h *Handle) deletePorts(n Network, e Endpoint) error {
	return h.with(func(c *nftables.Conn) error {
		var err error = unix.ENOENT
		if !e.Unsure && len(e.Ports) > 0 {
			err = flush(c, append(e.entrances(n), e.portElements(n)...), (*nftables.Conn).SetDeleteElements)
		}
		for try := 0; errors.Is(err, unix.ENOENT) && try < 100; try++ {
			var found []element
			if found, err = portElements(c, networkTag(n.ID)+tag(e.ID)); err == nil {
				err = flush(c, found, (*nftables.Conn).SetDeleteElements)
			}
		}
		return err
	})
}

// DeleteHolder ends the ports of the endpoint that err names.
func (h *Handle) DeleteHolder(ctx context.Context, err *TakenError) error {
	what := fmt.Sprintf("end published ports of endpoint %q", err.Endpoint)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return failure(what, h.with(func(c *nftables.Conn) error {
		if err.tag == "" {
			return err // whose it is cannot be told
		}
		found, ferr := portElements(c, err.tag)
		if ferr != nil || len(found) == 0 {
			return ferr
		}
		ferr = flush(c, found, (*nftables.Conn).SetDeleteElements)
		if errors.Is(ferr, unix.ENOENT) { // somebody else did
			return nil
		}
		return ferr
	}))
}

// replacePorts is one try. Old elements that stay are left alone, so that not
// even the kernel's memory of them changes.
func (h *Handle) replacePorts(c *nftables.Conn, n Network, e Endpoint, setUp func()) error {
	has, err := h.hasPorts(e)
	if err != nil {
		return err
	}
	var old []element
	if has || len(e.Ports) == 0 {
		if old, err = portElements(c, networkTag(n.ID)+tag(e.ID)); err != nil {
			return err
		}
	}
	own := append(e.entrances(n), e.portElements(n)...)
	gone := slices.DeleteFunc(old, func(o element) bool {
		return slices.ContainsFunc(own, func(n element) bool { return o.same(n) })
	})
	setUp()
	if err := queue(c, gone, (*nftables.Conn).SetDeleteElements); err != nil {
		return err
	}
	return flush(c, slices.Concat(n.elements(), e.shared(n), e.publishingElements(n), own), (*nftables.Conn).SetAddElements)
}

// same reports whether both are one element to the kernel.
func (x element) same(y element) bool {
	return x.set.Name == y.set.Name && x.set.Table.Family == y.set.Table.Family && x.IntervalEnd == y.IntervalEnd &&
		bytes.Equal(x.Key, y.Key) && bytes.Equal(x.KeyEnd, y.KeyEnd) && bytes.Equal(x.Val, y.Val) && x.VerdictData == nil && y.VerdictData == nil
}

// portElements returns the elements of published ports whose comment starts with
// prefix, and those that go with them.
func portElements(c *nftables.Conn, prefix string) ([]element, error) {
	var found []element
	for _, f := range []family{ipv4(), ipv6()} {
		for _, s := range append(f.portSets(), f.published(), f.open()) {
			all, err := dump(c, s)
			if err != nil {
				return nil, err
			}
			for _, e := range all {
				if strings.HasPrefix(e.Comment, prefix) {
					found = append(found, element{s, e})
				}
			}
		}
		s := f.portOwner()
		all, err := owned(c, s)
		if err != nil {
			return nil, err
		}
		for _, i := range all {
			if strings.HasPrefix(i[0].Comment, prefix) {
				i[1].Comment = i[0].Comment // so that it can be told whose it is
				found = append(found, element{s, i[0]}, element{s, i[1]})
			}
		}
	}
	return found, nil
}

// owned returns the intervals of port-owner, each as its two elements.
func owned(c *nftables.Conn, s *nftables.Set) (all [][2]nftables.SetElement, err error) {
	es, err := dump(c, s)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(es, func(a, b nftables.SetElement) int {
		if by := bytes.Compare(a.Key, b.Key); by != 0 || a.IntervalEnd == b.IntervalEnd {
			return by
		}
		if a.IntervalEnd { // of the one before
			return -1
		}
		return 1
	})
	for i := 0; i+1 < len(es); i++ {
		if !es[i].IntervalEnd && es[i+1].IntervalEnd {
			all = append(all, [2]nftables.SetElement{es[i], es[i+1]})
		}
	}
	return all, nil
}

// LetsLoopback reports whether ports of a network on the link can be reached from
// the host's IPv4 loopback.
func (h *Handle) LetsLoopback(ctx context.Context, link string) (yes bool, err error) {
	what := "look for ports that lead to " + link
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	err = h.with(func(*nftables.Conn) error {
		yes, err = h.contains(ipv4().portLocal(), name16(link))
		return err
	})
	return yes, failure(what, err)
}

// hasPorts reports whether ports lead to the endpoint, from the kernel and at
// the cost of a lookup.
func (h *Handle) hasPorts(e Endpoint) (has bool, err error) {
	for _, f := range []family{ipv4(), ipv6()} {
		yes, err := h.contains(f.portUser(), name16(e.Port))
		if err != nil {
			return false, err
		}
		has = has || yes
	}
	return has, nil
}

// contains asks for one element. No such set is no such element.
func (h *Handle) contains(s *nftables.Set, key []byte) (bool, error) {
	answer, err := h.askElement(s, key)
	return answer != nil, err
}

// explain finds out who has one of e's ports if err is a conflict.
func (h *Handle) explain(what string, e Endpoint, err error) error {
	if !errors.Is(err, bowline.ErrConflict) || len(e.Ports) == 0 {
		return err
	}
	held, herr := h.heldBy(e, func(owner string) bool { return owner != e.Port })
	if herr != nil {
		return errors.Join(err, herr)
	}
	for _, p := range e.Ports {
		for _, o := range held {
			if p.Overlaps(o.Port) {
				return fmt.Errorf("%s: %w", what, &TakenError{p, o.Network, o.Endpoint, o.link, o.tag})
			}
		}
	}
	return err
}

// Ports returns the ports that lead to the endpoint, rows of them port by port
// unless they are wide.
func (h *Handle) Ports(ctx context.Context, n Network, e Endpoint) (ps []Port, err error) {
	what := fmt.Sprintf("list ports of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	err = h.with(func(c *nftables.Conn) error {
		has, err := h.hasPorts(e)
		if err != nil || !has {
			return err
		}
		es, err := portElements(c, networkTag(n.ID)+tag(e.ID))
		for _, e := range es {
			if p, ok := e.port(); ok {
				ps = append(ps, p)
			}
		}
		return err
	})
	return ps, failure(what, err)
}

// port reads an element that translates.
func (x element) port() (p Port, ok bool) {
	f := ipv4()
	if x.set.Table.Family == nftables.TableFamilyIPv6 {
		f = ipv6()
	}
	key, size := x.Key, int(f.size)
	p.Host, _ = netip.AddrFromSlice(make([]byte, size))
	switch x.set.Name {
	case "port":
	case "port-at", "port-row":
		p.Host, _ = netip.AddrFromSlice(key[:size])
		key = key[size:]
	default:
		return p, false
	}
	to, _ := netip.AddrFromSlice(x.Val[:size])
	p.Protocol, p.First, p.Count = key[0], binary.BigEndian.Uint16(key[4:]), 1
	p.To = netip.AddrPortFrom(to, p.First)
	if x.set.Name == "port-row" {
		p.Count = int(binary.BigEndian.Uint16(x.KeyEnd[size+4:])) - int(p.First) + 1
	} else {
		p.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(x.Val[size:]))
	}
	return p, true
}

// A HeldPort is one that an endpoint has.
type HeldPort struct {
	Port
	Network, Endpoint string // as far as a comment has room for them
	link, tag         string
}

// Held returns the ports of e's families that other endpoints have, in their
// order. Port.To is not known.
func (h *Handle) Held(ctx context.Context, e Endpoint) ([]HeldPort, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list published ports: %w", err)
	}
	return h.heldBy(e, func(owner string) bool { return owner != e.Port })
}

func (h *Handle) heldBy(e Endpoint, is func(owner string) bool) (held []HeldPort, err error) {
	err = h.with(func(c *nftables.Conn) error {
		for _, f := range e.portFamilies() {
			all, err := owned(c, f.portOwner())
			if err != nil {
				return err
			}
			for _, i := range all {
				if owner, _, _ := strings.Cut(string(i[0].Val), "\x00"); is(owner) {
					held = append(held, f.held(i, e.Ports))
				}
			}
		}
		return nil
	})
	slices.SortFunc(held, func(a, b HeldPort) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	return held, failure("list published ports", err)
}

// held reads an interval of port-owner. An IPv6 address is known only if it is
// one of the ports'.
func (f family) held(i [2]nftables.SetElement, ports []Port) HeldPort {
	lo, end := i[0].Key, i[1].Key
	h := HeldPort{Port: Port{Protocol: lo[1], First: binary.BigEndian.Uint16(lo[2:]), Count: 1}}
	h.Host, _ = netip.AddrFromSlice(make([]byte, f.size))
	switch {
	case bytes.Equal(lo[4:], make([]byte, 12)): // all addresses
		h.Count = int(binary.BigEndian.Uint16(end[2:])-h.First) + 1
	case f.size == 4:
		h.Host, _ = netip.AddrFromSlice(lo[12:])
	default:
		h.Host = netip.MustParseAddr("100::") // one that nobody has, RFC 6666
		for _, p := range ports {
			if !p.Host.IsUnspecified() && bytes.Equal(p.owned("")[0][0][4:], lo[4:]) {
				h.Host = p.Host
			}
		}
	}
	h.link, _, _ = strings.Cut(string(i[0].Val), "\x00")
	words := strings.SplitN(i[0].Comment, " ", 3)
	if len(words) == 3 {
		h.tag, h.Endpoint, h.Network = words[0], words[1], words[2]
	}
	return h
}
