package cnm

import (
	"fmt"

	"github.com/bowline-net/bowline"
)

// rates returns the limits of an endpoint: its own, and in a direction for which
// it has none those of its network.
func rates(n Network, e bowline.EndpointSpec) (bowline.Rates, error) {
	all, err := bowline.RatesOf(n.Options)
	if err != nil {
		return all, fmt.Errorf("network %.12s: %w", n.ID, err)
	}
	own, err := bowline.RatesOf(e.Options)
	if err != nil {
		return own, fmt.Errorf("endpoint %.12s: %w", e.ID, err)
	}
	if _, in := e.Options["ingressRate"]; in {
		all.IngressRate, all.IngressBurst = own.IngressRate, own.IngressBurst
	}
	if _, out := e.Options["egressRate"]; out {
		all.EgressRate, all.EgressBurst = own.EgressRate, own.EgressBurst
	}
	return all, nil
}
