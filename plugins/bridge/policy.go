package main

import (
	"context"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/nft"
)

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
	if err := endpoint.Resolved(re.ID, re.Policy); err != nil {
		return err
	}
	return d.rules.ReplacePolicy(ctx, ruleNetwork(n, o), re)
}
