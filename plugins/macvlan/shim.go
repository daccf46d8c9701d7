package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/undo"
)

// A parent does not hear the macvlans on it, nor they it: the host and its
// containers are strangers. A shim is a macvlan of the host's own on the same
// parent, by which they reach each other: a route and a neighbour for each
// address of a container.
//
// The host's addresses must not be seen to have two MACs. So the firewall lets
// to the shim only what our containers send, and lets nothing leave it but to
// them: the LAN never asks it, and is never asked by it. What containers have is
// known, so the host asks for nobody there.

// shimName names the network's link on the parent.
func shimName(n bowline.NetworkConfig, parent string) string {
	return bowline.LinkName("bwh", parent, n.ID)
}

// admit has the host and the endpoint reach each other.
func (d *driver) admit(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, o options, e bowline.EndpointSpec, parent link.Info, mac net.HardwareAddr) error {
	shim := shimName(n, parent.Name)
	defer d.hold(shim)()
	l, err := d.ensureShim(ctx, u, n, shim, parent)
	if err != nil {
		return err
	}
	u.Push("end host access of "+e.ID, func(ctx context.Context) error {
		e.MAC = mac
		return d.expel(ctx, n, e)
	})
	if err := d.rules.EnsureShim(ctx, shim); err != nil {
		return err
	}
	if err := d.rules.AdmitToShim(ctx, peerOf(n, e, shim, mac)); err != nil {
		return err
	}
	// Up only now that the LAN cannot reach it.
	if !l.Up {
		if err := d.host.Set(ctx, shim, link.Change{NoLinkLocal: true, Up: true}); err != nil {
			return err
		}
	}
	srcs, err := d.hostAddrs(ctx, o, parent)
	if err != nil {
		return err
	}
	if err := d.ensureSeen(ctx, l, srcs); err != nil {
		return err
	}
	for _, a := range e.Addrs {
		if err := d.host.EnsurePeer(ctx, l.Index, link.Peer{Addr: a.Addr(), MAC: mac, Src: sourceFor(a.Addr(), srcs)}); err != nil {
			return err
		}
	}
	return nil
}

func peerOf(n bowline.NetworkConfig, e bowline.EndpointSpec, shim string, mac net.HardwareAddr) nft.ShimPeer {
	return nft.ShimPeer{Network: n.ID, Endpoint: e.ID, Link: shim, MAC: mac}
}

// ensureShim makes the shim, down, unless it is there.
func (d *driver) ensureShim(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, name string, parent link.Info) (link.Info, error) {
	l, err := d.host.See(ctx, name)
	if err == nil {
		switch {
		case !ownShim(n, l, parent.Name):
			return l.Info, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: host-access: link %s is in the way: it is somebody else's", n.ID, name))
		case l.Alias != "" && l.Parent == parent.Index && l.Mode == link.ModeBridge:
			return l.Info, nil
		}
		if err := d.host.Delete(ctx, name); err != nil { // of a parent that was replaced, or half-made
			return l.Info, err
		}
	} else if !gone(err) {
		return l.Info, err
	}
	err = d.host.CreateMacvlan(ctx, d.host, link.Macvlan{
		Name: name, Parent: parent.Index, Mode: link.ModeBridge, MAC: bowline.MAC("shim", name), Alias: endpoint.NetworkAlias(n), Quiet: true,
	})
	if err != nil {
		return link.Info{}, err
	}
	u.Push("delete host access of network "+n.ID, func(ctx context.Context) error {
		return d.eachShim(ctx, n, func(link.Info) error { return nil })
	})
	return d.host.Get(ctx, name)
}

// ownShim tells the network's shim on the parent of that name from what others
// have. It gets its alias when all else of it is made: if a kill came before
// that, its name and MAC say whose it is.
func ownShim(n bowline.NetworkConfig, l link.Seen, parent string) bool {
	if l.Kind != "macvlan" || !strings.HasPrefix(l.Name, "bwh") {
		return false
	}
	if l.Alias == "" {
		return l.Name == shimName(n, parent) && bytes.Equal(l.MAC, bowline.MAC("shim", l.Name))
	}
	return l.Alias == endpoint.NetworkAlias(n)
}

// hostAddrs are those by which containers see the host.
func (d *driver) hostAddrs(ctx context.Context, o options, parent link.Info) ([]netip.Prefix, error) {
	if len(o.hostAddrs) == 0 {
		return d.host.Addrs(ctx, parent.Index)
	}
	var ps []netip.Prefix
	for _, a := range o.hostAddrs {
		ps = append(ps, netip.PrefixFrom(a, a.BitLen()))
	}
	return ps, nil
}

// ensureSeen gives the shim its addresses.
func (d *driver) ensureSeen(ctx context.Context, shim link.Info, addrs []netip.Prefix) error {
	for _, p := range seen(addrs) {
		if _, err := d.host.EnsureAddr(ctx, shim.Index, link.Addr{Prefix: p}); err != nil {
			return err
		}
	}
	return nil
}

// seen are the addresses that the shim has itself, those of the host: by them
// alone it answers who asks for them by IPv6 (RFC 4861, 7.2.3), and of them the
// kernel takes the one that hides containers of other networks that get out here.
func seen(addrs []netip.Prefix) (own []netip.Prefix) {
	for _, p := range addrs {
		own = append(own, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	return own
}

// sourceFor is the host's address from which it speaks to a: one of the same
// subnet, else the first of the family.
func sourceFor(a netip.Addr, addrs []netip.Prefix) (src netip.Addr) {
	for _, p := range addrs {
		if p.Addr().Is4() != a.Is4() {
			continue
		}
		if p.Contains(a) {
			return p.Addr()
		}
		if !src.IsValid() {
			src = p.Addr()
		}
	}
	return src
}

// expel ends the host access of an endpoint, and with that of the last one the
// shim.
func (d *driver) expel(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	mac, err := endpoint.MAC(n, e)
	if err != nil {
		mac = bowline.MAC(n.ID, e.ID)
	}
	err = d.eachShim(ctx, n, func(shim link.Info) error {
		peers, err := d.host.Peers(ctx, shim.Index)
		if err != nil {
			return err
		}
		var errs []error
		for a, p := range peers {
			if bytes.Equal(p.MAC, mac) {
				errs = append(errs, d.host.DeletePeer(ctx, shim.Index, a))
			}
		}
		return errors.Join(append(errs, d.rules.ExpelFromShim(ctx, n.ID, e.ID))...)
	})
	return errors.Join(err, d.rules.ExpelFromShim(ctx, n.ID, e.ID), d.deleteLost(ctx))
}

// deleteLost removes the filters of shims whose link somebody else has removed,
// or its parent, once nobody is left there.
func (d *driver) deleteLost(ctx context.Context) error {
	if d.plan != nil {
		return nil // it would tell of what others lost
	}
	idle, err := d.rules.ShimsWithoutPeers(ctx)
	errs := []error{err}
	for _, shim := range idle {
		release := d.hold(shim)
		if _, err := d.host.Get(ctx, shim); gone(err) {
			errs = append(errs, d.rules.DeleteShim(ctx, shim))
		}
		release()
	}
	return errors.Join(errs...)
}

// eachShim calls f with each shim of the network, held, and removes it if it has
// no peers then.
func (d *driver) eachShim(ctx context.Context, n bowline.NetworkConfig, f func(shim link.Info) error) error {
	all, err := d.host.SeeAll(ctx)
	errs := []error{err}
	names := map[int]string{}
	for _, l := range all {
		names[l.Index] = l.Name
	}
	for _, l := range all {
		if ownShim(n, l, names[l.Parent]) {
			errs = append(errs, d.leaveShim(ctx, l.Info, f))
		}
	}
	return errors.Join(errs...)
}

func (d *driver) leaveShim(ctx context.Context, shim link.Info, f func(shim link.Info) error) error {
	defer d.hold(shim.Name)()
	err := f(shim)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	left, err := d.host.Peers(ctx, shim.Index)
	if err != nil || len(left) > 0 {
		return err
	}
	return errors.Join(d.host.Delete(ctx, shim.Name), d.rules.DeleteShim(ctx, shim.Name))
}
