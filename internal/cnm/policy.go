package cnm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
)

// policy returns the rules of an endpoint: its own, then those of its network.
// dockerd tells no names, so networks are named by their IDs, or the first 12
// characters or more of them.
func (d *NetworkDriver) policy(ctx context.Context, n Network, e bowline.EndpointSpec) ([]bowline.PolicyRule, error) {
	own, err := bowline.ParsePolicy(fmt.Sprintf("endpoint %.12s", e.ID), e.Options["policy"])
	if err != nil {
		return nil, err
	}
	all, err := bowline.ParsePolicy(fmt.Sprintf("network %.12s", n.ID), n.Options["policy"])
	if err != nil {
		return nil, err
	}
	rules := append(own, all...)
	if len(rules) == 0 {
		return nil, nil
	}
	return bowline.ResolvePolicy(n.Config(), rules, func(network string) ([]netip.Prefix, error) {
		known, err := d.networks.All(ctx)
		i := slices.IndexFunc(known, func(o Network) bool {
			return o.ID == network || len(network) >= 12 && strings.HasPrefix(o.ID, network)
		})
		if i < 0 { // of another engine
			peers, perr := d.endpoints.Prefixes(ctx, network)
			if len(peers) > 0 {
				return peers, nil
			}
			return nil, errors.Join(err, perr)
		}
		var peers []netip.Prefix
		for _, p := range known[i].Pools {
			peers = append(peers, p.Prefix)
		}
		return peers, nil
	})
}
