package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

// parent returns the link that the endpoint is on: one of the sandbox, or of the
// host.
func (d *driver) parent(ctx context.Context, n bowline.NetworkConfig, o options, in *link.Handle) (link.Info, error) {
	if !o.linkInContainer {
		return d.ensureParent(ctx, n, o)
	}
	l, err := in.Get(ctx, o.parent)
	if errors.Is(err, bowline.ErrUnknown) {
		return l, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("network %q: option parent=%q: want a link of the container, for linkInContainer is true", n.ID, o.parent))
	}
	return l, err
}

// ensureParent finds the network's parent on the host, or makes it if it is in a
// VLAN of a link that is there. One that was made stays until nobody uses it.
func (d *driver) ensureParent(ctx context.Context, n bowline.NetworkConfig, o options) (link.Info, error) {
	l, err := d.findParent(ctx, n, o)
	if !errors.Is(err, bowline.ErrUnknown) {
		return l, err
	}
	lower, vlan, tagged := splitVLAN(o.parent)
	if !tagged {
		return l, noParent(n, o)
	}
	under, err := d.host.Get(ctx, lower)
	if errors.Is(err, bowline.ErrUnknown) {
		return l, noParent(n, o)
	}
	if err != nil {
		return l, err
	}
	l, _, err = d.host.EnsureDot1Q(ctx, link.Dot1Q{Name: o.parent, Parent: under.Index, VLAN: vlan, Alias: endpoint.NetworkAlias(n)})
	if err != nil {
		return l, fmt.Errorf("network %q: option parent=%q: %w", n.ID, o.parent, err)
	}
	return l, nil
}

// findParent returns the parent as it is. The error wraps [bowline.ErrUnknown]
// if it is not there.
func (d *driver) findParent(ctx context.Context, n bowline.NetworkConfig, o options) (link.Info, error) {
	if o.parent != "" {
		return d.host.Get(ctx, o.parent)
	}
	l, err := d.host.DefaultLink(ctx)
	if errors.Is(err, bowline.ErrUnknown) {
		return l, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("network %q: option parent: want the name of a link, for the host has no default route whose link could be it", n.ID))
	}
	return l, err
}

// HostAddrs returns the addresses that the host has on the network's parent, with
// the MAC that they are at. The parent hears no macvlan ask for them.
func (d *driver) HostAddrs(ctx context.Context, n bowline.NetworkConfig) (map[netip.Addr]net.HardwareAddr, error) {
	o, err := parseOptions(n)
	if err != nil || o.linkInContainer {
		return nil, err
	}
	parent, err := d.findParent(ctx, n, o)
	if err != nil {
		return nil, err
	}
	addrs, err := d.host.Addrs(ctx, parent.Index)
	own := map[netip.Addr]net.HardwareAddr{}
	for _, p := range addrs {
		own[p.Addr()] = parent.MAC
	}
	for _, a := range o.hostAddrs {
		own[a] = parent.MAC
	}
	return own, err
}

func noParent(n bowline.NetworkConfig, o options) error {
	return bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("network %q: option parent=%q: want a link of the host, or NAME.VLAN of one that is there", n.ID, o.parent))
}

// splitVLAN reads eth0.10.
func splitVLAN(name string) (lower string, vlan int, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 1 {
		return "", 0, false
	}
	vlan, err := strconv.Atoi(name[i+1:])
	return name[:i], vlan, err == nil && vlan >= 1 && vlan <= 4094
}

// Status implements [bowline.StatusReporter].
func (d *driver) Status(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil || o.linkInContainer {
		return err
	}
	l, err := d.findParent(ctx, n, o)
	if errors.Is(err, bowline.ErrUnknown) {
		if lower, _, tagged := splitVLAN(o.parent); tagged {
			if l, err = d.host.Get(ctx, lower); err == nil && l.Up {
				return nil // the first endpoint makes it
			}
		}
	}
	switch {
	case errors.Is(err, bowline.ErrUnknown):
		return bowline.Wrong(bowline.ErrDegraded, noParent(n, o).Error())
	case err != nil:
		return err
	case !l.Up:
		return bowline.Wrong(bowline.ErrDegraded, fmt.Sprintf("network %q: parent %s is down; set it up with: ip link set %s up", n.ID, l.Name, l.Name))
	}
	return nil
}
