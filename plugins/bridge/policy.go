package main

import (
	"context"
	"flag"
	"fmt"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/nft"
)

// policyUsage says what is right as the value of policy.
const policyUsage = "`RULES` such as \"allow ingress tcp 80,443; deny ingress\": whom containers may talk to"

// policyFlag adds the key, which faces read: a driver gets the rules of networks
// and endpoints as one list.
func policyFlag(fs *flag.FlagSet, rules *string) { fs.StringVar(rules, "policy", "", policyUsage) }

// checkPolicy tells wrong rules, which the flag cannot tell in detail.
func checkPolicy(place, rules string) error {
	if rules == "" {
		return nil
	}
	_, err := bowline.ParsePolicy(place, rules)
	return err
}

// validatePolicy finds rules that cannot be kept.
func validatePolicy(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if len(e.Policy) > 0 && n.Options["firewall"] == "none" {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(`network %q: option firewall="none" and a policy: want firewall="nft", for a policy takes rules`, n.ID))
	}
	return nil
}

var _ bowline.Policer = (*driver)(nil)

// Enforce implements [bowline.Policer].
func (d *driver) Enforce(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	if err := validatePolicy(n, e); err != nil {
		return err
	}
	re := nft.Endpoint{ID: e.ID, Port: outerName(n, e.ID), Policy: e.Policy}
	if err := resolved(re); err != nil {
		return err
	}
	return d.rules.ReplacePolicy(ctx, ruleNetwork(n, o), re)
}

// resolved tells whether all rules say whom they are about.
func resolved(e nft.Endpoint) error {
	if i := slices.IndexFunc(e.Policy, func(r bowline.PolicyRule) bool { return r.Network != "" && len(r.Peers) == 0 }); i >= 0 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("endpoint %q: policy: rule %d %q: want the prefixes of the network", e.ID, i+1, e.Policy[i]))
	}
	return nil
}

// policyCounts returns how often each rule of the endpoint's policy decided, and
// last what none did.
func policyCounts(e bowline.EndpointSpec, hits []nft.Hit) []bowline.PolicyCount {
	if len(e.Policy) == 0 {
		return nil
	}
	var names []string
	for _, r := range e.Policy {
		names = append(names, r.String())
	}
	names = append(names, "otherwise allow ingress", "otherwise allow egress")
	counts := make([]bowline.PolicyCount, len(names))
	for i, name := range names {
		counts[i].Rule = name
		if i < len(hits) {
			counts[i].Packets, counts[i].Bytes = hits[i].Packets, hits[i].Bytes
		}
	}
	return counts
}
