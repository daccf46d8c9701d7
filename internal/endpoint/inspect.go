package endpoint

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/bowline-net/bowline"
)

// Each calls f with each place and the options of its network, which parse reads.
// If err is not nil, that is what is said of all.
func Each[O any](places []bowline.Place, err error, parse func(bowline.NetworkConfig) (O, error), f func(bowline.Place, O) bowline.Inspection) []bowline.Inspection {
	all := make([]bowline.Inspection, len(places))
	for i, p := range places {
		if all[i].Err = err; err != nil {
			continue
		}
		o, err := parse(p.Network)
		if all[i].Err = err; err == nil {
			all[i] = f(p, o)
		}
	}
	return all
}

// Check is CheckEndpoint of a driver that is an Inspector.
func Check(ctx context.Context, d bowline.Inspector, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	var found []bowline.Difference
	for _, i := range d.Diff(ctx, []bowline.Place{{Network: n}, {Network: n, Endpoint: e}}) {
		if i.Err != nil {
			return i.Err
		}
		found = append(found, i.Found...)
	}
	return bowline.FirstDifference(fmt.Sprintf("network %q, endpoint %q", n.ID, e.ID), found)
}

// Gateways returns, for each family, the gateway of the first pool that the
// endpoint has an address of, as gateway says; none if that is the zero Addr.
func Gateways(n bowline.NetworkConfig, e bowline.EndpointSpec, gateway func(bowline.Pool) netip.Addr) []netip.Addr {
	var all []netip.Addr
	for _, v6 := range []bool{false, true} {
		if gw := gatewayOf(n, e, v6, gateway); gw.IsValid() {
			all = append(all, gw)
		}
	}
	return all
}

func gatewayOf(n bowline.NetworkConfig, e bowline.EndpointSpec, v6 bool, gateway func(bowline.Pool) netip.Addr) netip.Addr {
	for _, a := range e.Addrs {
		for _, p := range n.Pools {
			if gw := gateway(p); a.Addr().Is6() == v6 && p.Prefix.Contains(a.Addr()) && gw.IsValid() {
				return gw
			}
		}
	}
	return netip.Addr{}
}
