package bowline

import (
	"fmt"
	"net/netip"
	"slices"
)

// OwnNetwork is the name by which a rule means the network that its endpoint is
// on.
const OwnNetwork = "self"

// ResolvePolicy returns rules with the prefixes of the networks that they name
// as their peers: those of n for n itself, else those that lookup returns. The
// error wraps [ErrInvalid] if a network has none.
func ResolvePolicy(n NetworkConfig, rules []PolicyRule, lookup func(network string) ([]netip.Prefix, error)) ([]PolicyRule, error) {
	rules = slices.Clone(rules)
	for i, r := range rules {
		if r.Network == "" {
			continue
		}
		rules[i].Peers = nil
		place := policyPlace{fmt.Sprintf("network %q", n.ID), i, r.String()}
		if r.Network == OwnNetwork || r.Network == n.ID {
			for _, p := range n.Pools {
				rules[i].Peers = append(rules[i].Peers, p.Prefix)
			}
			if len(n.Pools) == 0 {
				return nil, place.wrong("network", r.Network, "a network that gives addresses, which this one does not")
			}
			continue
		}
		peers, err := lookup(r.Network)
		if err != nil {
			return nil, err
		}
		if len(peers) == 0 {
			return nil, place.wrong("network", r.Network, `"`+OwnNetwork+`", a network that containers are attached to now, or its prefixes instead`)
		}
		rules[i].Peers = peers
	}
	return rules, nil
}
