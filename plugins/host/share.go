package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// Shared implements [bowline.Sharer]. The loopback is left out, which every
// sandbox has, and so are links without an address.
func (d *driver) Shared(ctx context.Context, n bowline.NetworkConfig) ([]bowline.SharedLink, []bowline.Route, error) {
	o, err := parseOptions(n)
	if err != nil {
		return nil, nil, err
	}
	if o.want != (wanted{}) {
		return nil, nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			"network %q: option %s: want a container with a namespace of its own, for in the host's the NIC is already", n.ID, o.want))
	}
	all, err := d.host.Links(ctx)
	if err != nil {
		return nil, nil, err
	}
	var routes []bowline.Route
	first := 0 // index of the default route's link
	for _, v6 := range []bool{false, true} {
		rs, err := d.host.Routes(ctx, v6)
		if err != nil {
			return nil, nil, err
		}
		for _, r := range rs {
			if r.Dst.Bits() == 0 && r.Index != 0 && *r.Table == mainTable {
				r.Table, r.Scope = nil, nil
				routes = append(routes, r.Route)
				if first == 0 {
					first = r.Index
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b link.Info) int { return later(a.Index, first) - later(b.Index, first) })
	var shared []bowline.SharedLink
	for _, l := range all {
		addrs, err := d.host.Addrs(ctx, l.Index)
		if err != nil {
			return nil, nil, err
		}
		if l.Name != "lo" && len(addrs) > 0 {
			shared = append(shared, bowline.SharedLink{Link: bowline.Link{Name: l.Name, MAC: l.MAC, MTU: l.MTU}, Addrs: addrs})
		}
	}
	return shared, routes, nil
}

func later(index, first int) int {
	if index == first {
		return 0
	}
	return 1
}
