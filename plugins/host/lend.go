package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/plan"
	"github.com/bowline-net/bowline/internal/undo"
)

// CreateEndpoint implements [bowline.Driver]. Without a sandbox the NIC is marked
// and stays where it is, for the engine to move.
func (d *driver) CreateEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) (bowline.Attachment, error) {
	o, err := parseEndpoint(n, e)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if o.want == (wanted{}) {
		return bowline.Attachment{}, noneWanted(n)
	}
	if d.isUserspace(o.want) {
		return d.unlinked(ctx, n, o, e)
	}
	unlock, err := d.loans.lock()
	if err != nil {
		return bowline.Attachment{}, err
	}
	defer unlock()
	l, there, err := d.loans.get(ctx, n.ID, e.ID)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if there {
		done, err := d.asLent(ctx, &l, n, o, e)
		if err != nil || done {
			return l.attachment(n, o, e), err
		}
		if err := d.takeBack(ctx, l); err != nil { // a kill left it half lent
			return bowline.Attachment{}, err
		}
	}
	nic, err := d.pick(ctx, n, o)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if l, err = d.lend(ctx, n, o, e, nic); err != nil {
		return bowline.Attachment{}, err
	}
	return l.attachment(n, o, e), nil
}

// unlinked is the attachment of a device that the container drives by itself: its
// engine gives it the device, and the addresses of IPAM are for it to use. As with
// the reference plugin there is nothing to move, and nothing to take back.
func (d *driver) unlinked(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) (bowline.Attachment, error) {
	if err := ctx.Err(); err != nil {
		return bowline.Attachment{}, err
	}
	if e.Sandbox == nil || e.Rates != (bowline.Rates{}) || len(e.Policy) > 0 {
		return bowline.Attachment{}, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			"network %q: option %s: the device is bound to a driver by which a program drives it itself: want a CNI engine, and neither limits nor policy, for the kernel has no link of it", n.ID, o.want))
	}
	return bowline.Attachment{Addrs: e.Addrs}, nil
}

// pick returns the NIC that is wanted if it is free and the host can spare it.
func (d *driver) pick(ctx context.Context, n bowline.NetworkConfig, o options) (link.Info, error) {
	place := fmt.Sprintf("network %q: option %s", n.ID, o.want)
	nic, err := d.free(ctx, n, o.want)
	if err != nil {
		return link.Info{}, err
	}
	if nic.Name == "lo" {
		return link.Info{}, bowline.Wrong(bowline.ErrInvalid, place+": want a NIC, for every namespace has a loopback of its own")
	}
	why, err := d.relied(ctx, nic)
	if err != nil {
		return link.Info{}, err
	}
	if why != "" && !o.force {
		return link.Info{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
			`%s: the host relies on the NIC %s: %s; want another one, or option force="true" to take it all the same`, place, nic.Name, why))
	}
	return nic, nil
}

// free returns the NIC that is wanted. One that a sandbox has that is gone is
// brought back first; of another the error wraps [bowline.ErrConflict] and names
// the holder.
func (d *driver) free(ctx context.Context, n bowline.NetworkConfig, w wanted) (link.Info, error) {
	nic, missing := d.choose(ctx, w)
	_, _, marked := parseAlias(nic.Alias)
	if missing == nil && !marked {
		return nic, nil
	}
	if missing != nil {
		missing = fmt.Errorf("network %q: %w", n.ID, missing)
		if !errors.Is(missing, bowline.ErrUnknown) {
			return nic, missing
		}
	}
	all, err := d.loans.all(ctx, "")
	if err != nil {
		return nic, err
	}
	i := slices.IndexFunc(all, func(l loan) bool {
		return marked && l.alias() == nic.Alias || missing != nil && d.names(w, l)
	})
	if i < 0 { // there is none, or its record was lost
		return nic, missing
	}
	l := all[i]
	ended := false
	if !l.Docker {
		if ended, err = d.ended(ctx, l); err != nil {
			return nic, err
		}
	}
	if ended {
		if err := d.takeBack(ctx, l); err != nil {
			return nic, err
		}
		return d.choose(ctx, w)
	}
	return nic, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
		"network %q: option %s: the NIC %s is held by %s of network %q: want it free, or another one", n.ID, w, l.Name, l.Endpoint, l.Network))
}

// lend records the NIC, marks it, and moves it into the sandbox if there is one.
func (d *driver) lend(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec, nic link.Info) (l loan, err error) {
	var u undo.Stack
	defer u.Rollback(ctx)
	if l, err = d.describe(ctx, n, e, nic); err != nil {
		return l, err
	}
	if err := d.loans.put(ctx, l); err != nil {
		return l, err
	}
	u.Push("put back "+l.Name, func(ctx context.Context) error { return d.takeBack(ctx, l) })
	if err := d.host.SetAlias(ctx, nic.Index, l.alias()); err != nil {
		return l, err
	}
	in, name := d.host, nic.Name
	if e.Sandbox != nil {
		if in, err = d.moveIn(ctx, &l, e.Sandbox); err != nil {
			return l, err
		}
		defer in.Close()
		name = e.IfName
	}
	if err := dressLink(ctx, in, name, l, o); err != nil {
		return l, err
	}
	if e.Sandbox != nil {
		if err := d.settleIn(ctx, &l, n, e, in, name); err != nil {
			return l, err
		}
	}
	u.Commit()
	return l, nil
}

// describe writes down what the NIC is and has.
func (d *driver) describe(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec, nic link.Info) (loan, error) {
	l := loan{
		Network: n.ID, Endpoint: e.ID, Name: nic.Name, Index: nic.Index, Kind: nic.Kind, MAC: nic.MAC.String(), MTU: nic.MTU, Up: nic.Up,
		Alias: nic.Alias, Device: d.deviceOf(nic.Name), Docker: e.Sandbox == nil,
	}
	if name, _, ours := parseAlias(nic.Alias); ours { // of a loan whose record was lost
		l.Alias, l.Name = "", name
	}
	if nic.Master != 0 {
		var err error
		if l.Master, err = d.nameOf(ctx, nic.Master); err != nil {
			return l, err
		}
	}
	counters, err := d.host.Counters(ctx)
	if err != nil {
		return l, err
	}
	l.Counters = counters[nic.Name]
	if l.Settings, err = d.host.Settings(ctx, nic); err != nil || e.Sandbox == nil {
		return l, err
	}
	l.IfName = e.IfName
	h, isHandle := e.Sandbox.(*netns.Handle)
	if !isHandle {
		return l, fmt.Errorf("lend %s: a sandbox that has no path", nic.Name)
	}
	id, err := h.ID()
	if err != nil {
		return l, err
	}
	l.Sandbox, l.NetnsIno = h.Path(), id.Ino
	if l.Pin, err = d.pinFor(ctx, l); err != nil {
		return l, err
	}
	return l, nil
}

// pinFor returns where the NIC's sandbox is to be pinned. A link that is made by
// software would end with its namespace; and the kernel takes NICs back to the
// namespace that the machine booted with, which need not be the host's.
func (d *driver) pinFor(ctx context.Context, l loan) (string, error) {
	if l.Kind == "" {
		if initial, err := d.host.IsInitial(ctx); err != nil || initial {
			return "", err
		}
	}
	return d.loans.pin(l.Network, l.Endpoint), nil
}

// moveIn pins the sandbox and moves the NIC there.
func (d *driver) moveIn(ctx context.Context, l *loan, sandbox bowline.Namespace) (*link.Handle, error) {
	in, err := d.host.In(sandbox)
	if err != nil {
		return nil, err
	}
	if _, err := in.Get(ctx, l.IfName); !errors.Is(err, bowline.ErrUnknown) {
		in.Close()
		if err == nil {
			err = bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("move %s: the sandbox has a link %s already", l.Name, l.IfName))
		}
		return nil, err
	}
	if l.Pin != "" {
		err = d.pin(ctx, sandbox, l.Pin)
	}
	if err == nil {
		err = d.host.MoveAs(ctx, l.Index, sandbox, l.IfName)
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// pin mounts the namespace at path.
func (d *driver) pin(ctx context.Context, ns bowline.Namespace, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.plan != nil {
		d.plan.Add(plan.Other, "host", "mount the sandbox's namespace as %s too, so that it outlives the container", filepath.Base(path))
		return nil
	}
	h, ok := ns.(*netns.Handle)
	if !ok {
		return fmt.Errorf("pin %s: a namespace that has no path", path)
	}
	if err := netns.Remove(path); err != nil { // what a kill left there is of no use to anybody
		return err
	}
	return h.Pin(path)
}

// dressLink gives the NIC the MAC, the MTU and the flags that the container's is
// to have.
func dressLink(ctx context.Context, in *link.Handle, name string, l loan, o options) error {
	c := link.Change{MTU: o.mtu, MAC: o.mac}
	if o.mac.String() == l.MAC {
		c.MAC = nil
	}
	if c.MTU != 0 || c.MAC != nil {
		if err := in.Set(ctx, name, c); err != nil {
			return err
		}
	}
	if t := o.tuning.Link(); t != (bowline.Tuning{}) {
		return in.SetTuning(ctx, name, t)
	}
	return nil
}

// asLent reports whether the NIC of the loan is where e is to have it, as e is to
// have it. Something else of that ID is [bowline.ErrConflict].
func (d *driver) asLent(ctx context.Context, l *loan, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) (bool, error) {
	at, err := d.find(ctx, *l)
	if err != nil {
		return false, err
	}
	defer at.close()
	if !d.names(o.want, *l) && at.where != nowhere {
		return false, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("endpoint %q of network %q has the NIC %s already, want one of option %s", e.ID, l.Network, l.Name, o.want))
	}
	if e.Sandbox == nil {
		return l.Docker && at.where == atHome && at.nic.Alias == l.alias(), nil
	}
	h, isHandle := e.Sandbox.(*netns.Handle)
	if at.where != away || !isHandle {
		return false, nil
	}
	id, err := h.ID()
	if err != nil {
		return false, err
	}
	if id.Ino != at.ino && at.alive {
		return false, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("endpoint %q of network %q has the NIC %s in another sandbox", e.ID, l.Network, l.Name))
	}
	if id.Ino != at.ino || at.nic.Name != e.IfName && !l.Docker {
		return false, nil
	}
	if err := dressLink(ctx, at.in, at.nic.Name, *l, o); err != nil {
		return true, err
	}
	return true, d.settleIn(ctx, l, n, e, at.in, at.nic.Name)
}

// routes are those of the main table that the NIC had and a container can have
// the same.
func (l loan) routes() []bowline.Route {
	prefixes := l.Settings.Prefixes()
	var rs []bowline.Route
	for _, e := range l.Settings.Entries() {
		r := e.Route
		if *r.Table != mainTable || r.Via.IsValid() && !r.Via.IsLinkLocalUnicast() && !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(r.Via) }) {
			continue // another table has no rule there, and a gateway off the link is known to nobody
		}
		r.Table, r.Scope = nil, nil
		rs = append(rs, r)
	}
	return rs
}

func has(gateways []netip.Addr, v6 bool) bool {
	return slices.ContainsFunc(gateways, func(a netip.Addr) bool { return a.Is6() == v6 })
}
