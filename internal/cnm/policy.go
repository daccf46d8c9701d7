package cnm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
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
		return d.networks.Prefixes(ctx, network)
	})
}

// Prefixes returns those of the network with that ID, or the first 12 characters
// or more of it; of one that is not Docker's those that its endpoints are from.
func (s Networks) Prefixes(ctx context.Context, id string) ([]netip.Prefix, error) {
	known, err := s.All(ctx)
	i := slices.IndexFunc(known, func(o Network) bool {
		return o.ID == id || len(id) >= 12 && strings.HasPrefix(o.ID, id)
	})
	var ps []netip.Prefix
	if i < 0 {
		ps, perr := state.OpenEndpoints().Prefixes(ctx, id)
		if len(ps) > 0 {
			return ps, nil
		}
		return nil, errors.Join(err, perr)
	}
	for _, p := range known[i].Pools {
		ps = append(ps, p.Prefix)
	}
	return ps, nil
}
