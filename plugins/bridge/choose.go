package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
)

// A chooser knows which ports of the host are free.
type chooser struct {
	d         *driver
	rn        nft.Network
	re        nft.Endpoint // as far as its ports can be found by
	listeners map[byte][]link.Listener
	held      []nft.HeldPort // by other endpoints, as far as it was asked for
	own       []nft.Port     // that lead to the endpoint already, if there is one to choose
	any       span           // that a port is chosen from if nothing else is said
	reserved  []span         // not to be chosen
}

// A span is first to last, both in it.
type span struct{ first, last uint16 }

// newChooser asks who listens, and no more unless there is a port to choose.
func (d *driver) newChooser(ctx context.Context, rn nft.Network, re nft.Endpoint, leads []lead) (*chooser, error) {
	c := &chooser{d: d, rn: rn, re: re, listeners: map[byte][]link.Listener{}}
	if !known(leads) {
		var err error
		if c.own, err = d.rules.Ports(ctx, rn, re); err != nil {
			return nil, err
		}
		if err := c.readRange(ctx); err != nil {
			return nil, err
		}
	}
	type query struct {
		v4, v6 bool
		span
	}
	queries := map[byte]query{}
	for _, l := range leads {
		s := c.span(l)
		for _, p := range l.ports {
			q, asked := queries[p.Protocol]
			if !asked {
				q.span = s
			}
			q.first, q.last = min(q.first, s.first), max(q.last, s.last)
			q.v4, q.v6 = q.v4 || p.Host.Is4(), q.v6 || p.Host.Is6()
			queries[p.Protocol] = q
		}
	}
	for protocol, q := range queries {
		ls, err := d.host.Listeners(ctx, protocol, q.v4, q.v6, q.first, q.last)
		if err != nil {
			return nil, err
		}
		c.listeners[protocol] = ls
	}
	return c, nil
}

// span is where the lead's ports are, or are to be chosen from.
func (c *chooser) span(l lead) span {
	switch {
	case l.HostPort == 0:
		return c.any
	case l.HostPortEnd != 0:
		return span{l.HostPort, l.HostPortEnd}
	}
	return span{l.HostPort, l.HostPort + uint16(l.Ports()-1)}
}

// readRange reads where the kernel itself chooses ports from.
func (c *chooser) readRange(ctx context.Context) error {
	text, err := c.d.host.Sysctl(ctx, "net/ipv4/ip_local_port_range")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(text, &c.any.first, &c.any.last); err != nil {
		return fmt.Errorf("read sysctl net/ipv4/ip_local_port_range=%q: %w", text, err)
	}
	reserved, err := c.d.host.Sysctl(ctx, "net/ipv4/ip_local_reserved_ports")
	if err != nil && !errors.Is(err, bowline.ErrNoKernel) {
		return err
	}
	for _, part := range strings.Split(reserved, ",") {
		first, last, row := strings.Cut(part, "-")
		if !row {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 == nil && err2 == nil {
			c.reserved = append(c.reserved, span{uint16(a), uint16(b)})
		}
	}
	return nil
}

// choose returns the leads with a port of the host for each. The error wraps
// [bowline.ErrConflict] if a process listens at one that was asked for, and
// [bowline.ErrExhausted] if there is none to choose.
func (c *chooser) choose(ctx context.Context, leads []lead) ([]lead, error) {
	now := slices.Clone(leads)
	var busy []nft.Port
	for _, h := range c.held {
		busy = append(busy, h.Port)
	}
	for _, l := range leads {
		if l.chosen() {
			continue
		}
		if p, ls := c.listening(l, c.keepsFree); ls != nil && !c.leads(ctx, p) {
			return nil, listensError(p, *ls)
		}
		busy = append(busy, l.ports...)
	}
	for i, l := range leads {
		if !l.chosen() {
			continue
		}
		if len(l.ports) == 0 { // reached at the container's own address
			continue
		}
		chosen, found := c.pick(l, busy)
		if !found {
			s := c.span(l)
			return nil, bowline.Wrong(bowline.ErrExhausted, fmt.Sprintf("port %s: none of %d to %d is free", l.PortMapping, s.first, s.last))
		}
		now[i] = chosen
		busy = append(busy, chosen.ports...)
	}
	return now, nil
}

// pick returns the lead at the port that it has already, or at a free one: the
// first of a few that were asked for, else any.
func (c *chooser) pick(l lead, busy []nft.Port) (lead, bool) {
	s := c.span(l)
	size := int(s.last) - int(s.first) + 1 - (l.Ports() - 1)
	for _, p := range c.own {
		at := l.at(p.First)
		inside := p.First >= s.first && int(p.First) < int(s.first)+size
		if inside && !slices.ContainsFunc(at.ports, func(p nft.Port) bool { return !slices.Contains(c.own, p) }) {
			return at, true
		}
	}
	start := 0
	if l.HostPort == 0 && size > 0 {
		start = rand.IntN(size)
	}
	for i := range max(size, 0) {
		at := l.at(s.first + uint16((start+i)%size))
		if c.free(at, busy) {
			return at, true
		}
	}
	return lead{}, false
}

// free reports whether nobody has the lead's ports, as far as is known.
func (c *chooser) free(l lead, busy []nft.Port) bool {
	if _, ls := c.listening(l, nil); ls != nil {
		return false
	}
	first, last := l.HostPort, l.HostPort+uint16(l.Ports()-1)
	if slices.ContainsFunc(c.reserved, func(s span) bool { return s.first <= last && first <= s.last }) {
		return false
	}
	return !slices.ContainsFunc(l.ports, func(p nft.Port) bool { return slices.ContainsFunc(busy, p.Overlaps) })
}

// listening returns a listener at one of the lead's ports, and that port. Those
// that except knows do not count.
func (c *chooser) listening(l lead, except func(link.Listener) bool) (nft.Port, *link.Listener) {
	for _, p := range l.ports {
		for i, ls := range c.listeners[p.Protocol] {
			if ls.Port >= p.First && ls.Port <= p.Last() && ls.Takes(p.Host) && (except == nil || !except(ls)) {
				return p, &c.listeners[p.Protocol][i]
			}
		}
	}
	return nft.Port{}, nil
}

// keepsFree reports whether who listens does so for the endpoint: conmon, which
// Podman starts for each container with its ID, listens at published ports to
// keep others from them, and still does when Podman reloads the network.
func (c *chooser) keepsFree(l link.Listener) bool {
	container, _, _ := strings.Cut(c.re.ID, "/")
	return l.IsOf("conmon", container)
}

// leads reports whether p leads to the endpoint already: then who listens there
// came later, and gets nothing.
func (c *chooser) leads(ctx context.Context, p nft.Port) bool {
	own, err := c.d.rules.Ports(ctx, c.rn, c.re)
	return err == nil && slices.ContainsFunc(own, p.Overlaps)
}

// listensError names the process.
func listensError(p nft.Port, l link.Listener) error {
	who := "a process"
	if pid, name := l.Process(); pid != 0 {
		who = fmt.Sprintf("process %d, %s,", pid, name)
	}
	return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("port %s is taken: %s listens at %s port %d", p, who, l.Addr, l.Port))
}

// chose reports whether p was chosen for one of the leads.
func chose(leads, now []lead, p nft.Port) bool {
	for i, l := range now {
		if leads[i].chosen() && slices.Contains(l.ports, p) {
			return true
		}
	}
	return false
}
