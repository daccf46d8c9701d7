package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/undo"
	"github.com/bowline-net/bowline/ipam"
)

const (
	// probeFor is how long others are asked whether they have an address, or less
	// if a gateway is there that answers sooner. RFC 5227 takes 4 to 9 seconds, for
	// which no container should wait; a LAN answers within a few milliseconds.
	probeFor = 100 * time.Millisecond
	// maxConflicts is how many addresses may turn out to be in use. They stay in
	// quarantine, so the engine's next ADD goes on from there.
	maxConflicts = 8
	// dyingFor is how long the kernel may take to end the namespace of a dead
	// container, whose links answer until then.
	dyingFor = 5 * time.Second
	// confirmFor is how long one may take of which no record is left, for DEL was
	// called meanwhile: whoever answers with a MAC such as ours is asked again.
	confirmFor = 500 * time.Millisecond
)

// A settled is an endpoint that has its addresses.
type settled struct {
	n     bowline.NetworkConfig
	e     bowline.EndpointSpec
	a     bowline.Attachment
	lease lease
}

// settle makes the endpoint with the addresses of l. Where the L2 is shared with
// others it asks them first, and takes other addresses in place of those that
// they use.
func (o op) settle(ctx context.Context, u *undo.Stack, sandbox *netns.Handle, caller ipamCaller, r state.Endpoint, e bowline.EndpointSpec, l lease) (settled, error) {
	var all []ipam.Conflict
	for {
		s := settled{n: o.network(l.pools()), e: e, lease: l}
		s.e.Addrs, r.Routes = l.addrs(), l.routes
		var err error
		if s.e.Policy, err = o.resolve(ctx, s.n, e.Policy); err != nil {
			return s, err
		}
		if s.a, err = o.attach(ctx, u, r, s.n, s.e); err != nil || !s.a.Shared || s.a.Down || len(s.a.Addrs) == 0 {
			return s, err
		}
		if _, probed := caller.(leased); probed { // by the daemon, before it said yes to the server
			return s, nil
		}
		used, err := o.ask(ctx, sandbox, s)
		if err != nil || len(used) == 0 {
			return s, err
		}
		for _, c := range used {
			slog.WarnContext(ctx, "address is in use by another host", "address", c.Addr, "mac", c.MAC.String())
		}
		all = append(all, used...)
		// With all that leads to the addresses: ports, rules.
		if err := o.Driver.DeleteEndpoint(ctx, s.n, s.e); err != nil {
			return s, err
		}
		l, err = caller.instead(ctx, r.Sandbox, used)
		if errors.Is(err, bowline.ErrExhausted) {
			err = fmt.Errorf("%w: %s", err, conflictText(all))
		}
		if err == nil && len(all) >= maxConflicts {
			err = bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: too many addresses are in use by other hosts: %s", s.n.ID, conflictText(all)))
		}
		if err != nil {
			return s, err
		}
		if err := apart(ctx); err != nil {
			return s, err
		}
	}
}

// ask returns which of the attachment's addresses somebody else has. An attachment
// of ours whose sandbox is gone, and whose address was given away for that, is
// taken away and waited for instead.
func (o op) ask(ctx context.Context, sandbox *netns.Handle, s settled) ([]ipam.Conflict, error) {
	if used, err := o.ofHost(ctx, s); err != nil || len(used) > 0 {
		return used, err
	}
	for start := time.Now(); ; {
		used, err := probe(ctx, sandbox, s.a, gateways(s))
		if err != nil || len(used) == 0 || time.Since(start) > dyingFor {
			return used, err
		}
		others, err := o.withoutDead(ctx, s.n, used)
		if err != nil || len(others) > 0 && (time.Since(start) > confirmFor || !localMACs(others)) {
			return others, err
		}
		if err := apart(ctx); err != nil {
			return nil, err
		}
	}
}

// localMACs reports whether all of them are locally administered, as ours are (IEEE
// 802, the second bit of the first byte).
func localMACs(used []ipam.Conflict) bool {
	return !slices.ContainsFunc(used, func(c ipam.Conflict) bool { return len(c.MAC) == 0 || c.MAC[0]&2 == 0 })
}

// ofHost returns which of the attachment's addresses the host itself has there.
func (o op) ofHost(ctx context.Context, s settled) (used []ipam.Conflict, err error) {
	d, ok := o.Driver.(bowline.Resident)
	if !ok {
		return nil, nil
	}
	own, err := d.HostAddrs(ctx, s.n)
	for _, p := range s.a.Addrs {
		if mac, has := own[p.Addr()]; has {
			used = append(used, ipam.Conflict{Addr: p.Addr(), MAC: mac})
		}
	}
	return used, err
}

// withoutDead returns used without those whose MAC is of an attachment of ours in
// a sandbox that is gone, of which it removes what may be left.
func (o op) withoutDead(ctx context.Context, n bowline.NetworkConfig, used []ipam.Conflict) ([]ipam.Conflict, error) {
	records, err := o.endpoints.OfNetwork(ctx, o.Face.Name, n.ID)
	var others []ipam.Conflict
	for _, c := range used {
		i := slices.IndexFunc(records, func(r state.Endpoint) bool { return r.MAC == c.MAC.String() && !alive(r) })
		if i < 0 {
			others = append(others, c)
			continue
		}
		r := records[i]
		release := o.endpoints.Hold(r.Driver, r.Network, r.ID)
		err = errors.Join(err, o.Driver.DeleteEndpoint(ctx, r.Config(), r.Spec()))
		release()
	}
	return others, err
}

// alive reports whether the sandbox of the recorded endpoint is there.
func alive(r state.Endpoint) bool {
	id, ok := netns.Stat(r.Sandbox)
	return ok && id.Ino == r.NetnsIno && r.BootID == state.BootID()
}

// apart waits for some part of a probe: two hosts that probe for the same
// address at the same time both give way, and must not meet at the next one, too.
func apart(ctx context.Context) error {
	t := time.NewTimer(rand.N(probeFor))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gateways are on the L2, if the pools say so: how fast they answer tells how long
// to wait for others.
func gateways(s settled) []netip.Addr {
	known := slices.Clone(s.a.Gateways)
	for _, p := range s.n.Pools {
		if p.Gateway.IsValid() && !slices.Contains(known, p.Gateway) {
			known = append(known, p.Gateway)
		}
	}
	return known
}

// probe returns which of the attachment's addresses somebody else has, by asking
// on its link before that has them. The link stays up, so that from now on it
// hears who asks for them.
func probe(ctx context.Context, sandbox *netns.Handle, a bowline.Attachment, known []netip.Addr) (used []ipam.Conflict, err error) {
	var addrs []netip.Addr
	v6 := false
	for _, p := range a.Addrs {
		addrs, v6 = append(addrs, p.Addr()), v6 || is6(p)
	}
	err = inSandbox(ctx, sandbox, func(h *link.Handle) error {
		l, err := h.Get(ctx, a.Link)
		if err != nil {
			return err
		}
		if err := setSysctls(ctx, h, ofItsLink(a), v6); err != nil {
			return err
		}
		if err := h.Set(ctx, a.Link, link.Change{Up: true}); err != nil {
			return err
		}
		found, err := h.ConflictsBeside(ctx, l, probeFor, known, addrs...)
		for _, addr := range addrs {
			if mac, ok := found[addr]; ok {
				used = append(used, ipam.Conflict{Addr: addr, MAC: mac})
			}
		}
		return err
	})
	return used, err
}

// ofItsLink leaves out what is to be set for the whole sandbox.
func ofItsLink(a bowline.Attachment) bowline.Attachment {
	all := a.Sysctls
	a.Sysctls = map[string]string{}
	for k, v := range all {
		if ofLink(k) {
			a.Sysctls[k] = v
		}
	}
	return a
}

func conflictText(used []ipam.Conflict) string {
	texts := make([]string, len(used))
	for i, c := range used {
		texts[i] = c.String()
	}
	return strings.Join(texts, ", ")
}
