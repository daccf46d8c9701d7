package cni

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/bowline-net/bowline"
)

// policy reads the rules of the endpoint: those that the engine gives, as
// runtimeConfig, args.cni and CNI_ARGS have them, and then those of the network.
// Names of networks are not resolved yet, for its addresses are not known.
func (o op) policy() ([]bowline.PolicyRule, error) {
	var all []bowline.PolicyRule
	place := fmt.Sprintf("network %q", o.Config.Name)
	for _, p := range []struct{ place, value string }{
		{place + ": runtimeConfig", o.Policy[0]},
		{place + ": args.cni", o.Policy[1]},
		{place + ": CNI_ARGS", o.arg("POLICY")},
		{place, o.Options["policy"]},
	} {
		if p.value == "" {
			continue
		}
		rules, err := bowline.ParsePolicy(p.place, p.value)
		if err != nil {
			return nil, err
		}
		all = append(all, rules...)
	}
	return all, nil
}

// policyTexts returns what runtimeConfig and args.cni have.
func policyTexts(d document) (texts [2]string) {
	for i, in := range []document{d.in("runtimeConfig"), d.in("args").in("cni")} {
		if in.has("policy") {
			texts[i] = text(in.all["policy"])
		}
	}
	return texts
}

// resolve puts prefixes in place of the networks that rules name.
func (o op) resolve(ctx context.Context, n bowline.NetworkConfig, rules []bowline.PolicyRule) ([]bowline.PolicyRule, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	return bowline.ResolvePolicy(n, rules, func(network string) ([]netip.Prefix, error) {
		return o.endpoints.Prefixes(ctx, network)
	})
}
