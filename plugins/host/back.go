package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/plan"
)

// DeleteEndpoint implements [bowline.Driver].
func (d *driver) DeleteEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	unlock, err := d.loans.lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, there, err := d.loans.get(ctx, n.ID, e.ID)
	if err != nil {
		return err
	}
	if there {
		return d.takeBack(ctx, l)
	}
	return d.putBackMarked(ctx, func(holder string) bool { return holder == shown(n.ID)+"/"+shown(e.ID) })
}

// takeBack brings the NIC back and makes it what it was. Its mark goes when all
// else is done, then the pin, then the record: whoever is interrupted is
// followed by somebody who finds the NIC, and goes on.
//
// A link of software that is gone with its namespace is forgotten. A NIC that is
// nowhere is not gone: its record stays for [driver.Reclaim].
func (d *driver) takeBack(ctx context.Context, l loan) error {
	at, err := d.awaited(ctx, l)
	if err != nil {
		return err
	}
	defer at.close()
	switch {
	case at.where == away:
		if at.nic, err = d.moveOut(ctx, l, at); err != nil {
			return err
		}
	case at.where == nowhere && l.Kind == "" && l.Pin == "":
		slog.WarnContext(ctx, "the NIC is not back yet; it will be put right when it comes", "nic", l.Name, "network", l.Network, "endpoint", l.Endpoint)
		return nil
	case at.where == nowhere:
		slog.WarnContext(ctx, "the link is gone with the namespace that it was in", "link", l.Name, "network", l.Network, "endpoint", l.Endpoint)
		return d.forget(ctx, l)
	}
	if at.nic.Alias == l.alias() {
		if err := d.restore(ctx, l, at.nic); err != nil {
			return err
		}
	}
	return d.forget(ctx, l)
}

// forget releases the pin and erases the record.
func (d *driver) forget(ctx context.Context, l loan) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.Pin != "" {
		if d.plan != nil {
			d.plan.Add(plan.Other, "host", "umount %s", filepath.Base(l.Pin))
		} else if err := netns.Remove(l.Pin); err != nil {
			return err
		}
	}
	return d.loans.delete(ctx, l)
}

// moveOut moves the NIC into the host, under the name that it had there if that
// is free. It is renamed in the sandbox, if it can be, so that nothing that
// watches the host's links sees it under another name.
func (d *driver) moveOut(ctx context.Context, l loan, at found) (link.Info, error) {
	home, closeHome, err := d.home()
	if err != nil {
		return link.Info{}, err
	}
	defer closeHome()
	if err := d.unsettle(ctx, l, at); err != nil {
		return link.Info{}, err
	}
	if err := at.in.Set(ctx, at.nic.Name, link.Change{Down: true}); err != nil {
		return link.Info{}, err
	}
	name := l.Name
	if _, err := d.host.Get(ctx, name); err == nil {
		name = "dev%d" // as the kernel does it; restore will say so
	} else if !errors.Is(err, bowline.ErrUnknown) {
		return link.Info{}, err
	} else if at.nic.Name != name {
		if err := at.in.Rename(ctx, at.nic.Index, name); err != nil && !errors.Is(err, bowline.ErrConflict) {
			return link.Info{}, err
		}
	}
	if err := at.in.MoveAs(ctx, at.nic.Index, home, name); err != nil {
		return link.Info{}, err
	}
	back, err := d.host.Aliased(ctx, l.alias())
	if err == nil && len(back) == 0 {
		err = fmt.Errorf("move %s back: it is not in the host", l.Name)
	}
	if err != nil {
		return link.Info{}, err
	}
	return back[0], nil
}

// restore makes the NIC, which is in the host, what it was: name, MAC, MTU,
// addresses, settings, state, master, routes, and last its alias. What cannot be
// as it was, for the host has changed meanwhile, is logged and left: the
// container must still end.
func (d *driver) restore(ctx context.Context, l loan, nic link.Info) error {
	tried := func(what string, err error) error {
		if err == nil || isCancel(err) {
			return err
		}
		slog.WarnContext(ctx, "the NIC is back, but not all as it was", "nic", nic.Name, "was", l.Name, "what", what, "error", err)
		return nil
	}
	mac, _ := net.ParseMAC(l.MAC)
	if nic.Name != l.Name || !slices.Equal(nic.MAC, mac) {
		if err := d.host.Set(ctx, nic.Name, link.Change{Down: true}); err != nil {
			return err
		}
		err := d.host.Rename(ctx, nic.Index, l.Name)
		if err == nil {
			nic.Name = l.Name
		}
		if err := tried("name", err); err != nil {
			return err
		}
	}
	c := link.Change{MTU: l.MTU}
	if len(mac) > 0 && !slices.Equal(nic.MAC, mac) {
		c.MAC = mac
	}
	if err := tried("MTU and MAC", d.host.Set(ctx, nic.Name, c)); err != nil {
		return err
	}
	if err := tried("addresses", d.host.RestoreAddrs(ctx, nic, l.Settings)); err != nil {
		return err
	}
	if err := tried("master", d.enslave(ctx, nic, l.Master)); err != nil {
		return err
	}
	if err := tried("state", d.host.Set(ctx, nic.Name, link.Change{Up: l.Up, Down: !l.Up})); err != nil {
		return err
	}
	if l.Up {
		if err := tried("routes", d.restoreRoutes(ctx, nic, l.Settings)); err != nil {
			return err
		}
	}
	return d.host.SetAlias(ctx, nic.Index, l.Alias)
}

func isCancel(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// enslave makes the NIC the port again that it was.
func (d *driver) enslave(ctx context.Context, nic link.Info, master string) error {
	if master == "" {
		return nil
	}
	m, err := d.host.Get(ctx, master)
	if err != nil || nic.Master == m.Index {
		return err
	}
	return d.host.Set(ctx, nic.Name, link.Change{Master: m.Index})
}

// restoreRoutes waits for IPv6 addresses first if routes name them as senders:
// the kernel takes none that it has not tried yet.
func (d *driver) restoreRoutes(ctx context.Context, nic link.Info, s link.Settings) error {
	if slices.ContainsFunc(s.Entries(), func(e link.Entry) bool { return e.Src.Is6() }) && d.plan == nil {
		if err := d.host.WaitDAD(ctx, nic.Index, 5*time.Second); isCancel(err) {
			return err
		}
	}
	return d.host.RestoreRoutes(ctx, nic, s)
}

// putBackMarked brings back NICs whose loan was lost, by what their alias says:
// the name. They must be in the host.
func (d *driver) putBackMarked(ctx context.Context, of func(holder string) bool) error {
	all, err := d.host.Links(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, nic := range all {
		name, holder, ours := parseAlias(nic.Alias)
		if !ours || !of(holder) {
			continue
		}
		if nic.Name != name {
			if err := d.host.Set(ctx, nic.Name, link.Change{Down: true}); err != nil {
				errs = append(errs, err)
				continue
			}
			if err := d.host.Rename(ctx, nic.Index, name); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		slog.WarnContext(ctx, "the NIC is back by its mark: the record of its addresses and routes was lost", "nic", name)
		errs = append(errs, d.host.SetAlias(ctx, nic.Index, ""))
	}
	return errors.Join(errs...)
}

// Prune implements [bowline.Collector].
func (d *driver) Prune(ctx context.Context, n bowline.NetworkConfig, keep []string) error {
	unlock, err := d.loans.lock()
	if err != nil {
		return err
	}
	defer unlock()
	all, err := d.loans.all(ctx, n.ID)
	errs := []error{err}
	kept := map[string]bool{}
	for _, id := range keep {
		kept[shown(n.ID)+"/"+shown(id)] = true
	}
	for _, l := range all {
		if !slices.Contains(keep, l.Endpoint) {
			errs = append(errs, d.takeBack(ctx, l))
		}
	}
	errs = append(errs, d.loans.sweep(n.ID))
	prefix := shown(n.ID) + "/"
	return errors.Join(append(errs, d.putBackMarked(ctx, func(holder string) bool {
		return len(holder) > len(prefix) && holder[:len(prefix)] == prefix && !kept[holder]
	}))...)
}

// Networks implements [bowline.Collector]: there is nothing of a network.
func (d *driver) Networks(ctx context.Context) ([]bowline.NetworkConfig, error) {
	return nil, ctx.Err()
}

// ended reports whether the sandbox that had the NIC is gone, and the NIC can be
// brought back now.
func (d *driver) ended(ctx context.Context, l loan) (bool, error) {
	if l.alive() || l.inUse() {
		return false, nil
	}
	at, err := d.find(ctx, l)
	at.close()
	return err == nil && !at.alive && (at.where != nowhere || l.Kind != "" || l.Pin != ""), err
}

// settleMissed pins what dockerd moved while nobody of ours looked.
func (d *driver) settleMissed(ctx context.Context, l loan) error {
	if l.Pin != "" {
		return nil
	}
	at, err := d.find(ctx, l)
	if err != nil || at.where != away {
		return err
	}
	defer at.close()
	return d.pinDocker(ctx, &l, at)
}

// Reclaim implements [bowline.Lender].
func (d *driver) Reclaim(ctx context.Context) ([]bowline.Place, error) {
	unlock, err := d.loans.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := d.loans.all(ctx, "")
	errs := []error{err}
	var back []bowline.Place
	for _, l := range all {
		if l.Docker {
			errs = append(errs, d.settleMissed(ctx, l))
			continue
		}
		ended, err := d.ended(ctx, l)
		errs = append(errs, err)
		if !ended {
			continue
		}
		if err := d.takeBack(ctx, l); err != nil {
			errs = append(errs, err)
			continue
		}
		back = append(back, bowline.Place{Network: bowline.NetworkConfig{ID: l.Network}, Endpoint: bowline.EndpointSpec{ID: l.Endpoint, IfName: l.Name}})
	}
	return back, errors.Join(errs...)
}
