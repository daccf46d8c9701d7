package main

import (
	"context"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// limitsMark starts the alias of an endpoint's ifb.
const limitsMark = "bowline limits "

func limitsPrefix(n bowline.NetworkConfig) string { return limitsMark + shown(n.ID) + "/" }

// ifbName names the link that what the endpoint sends waits at.
func ifbName(n bowline.NetworkConfig, endpoint string) string {
	return bowline.LinkName("bwf", n.ID, endpoint)
}

// limits are e's rates as its outer end has them: what leaves the host by it is
// what comes to the endpoint.
func limits(n bowline.NetworkConfig, e bowline.EndpointSpec) link.Limits {
	r := e.Rates
	return link.Limits{
		Out: link.Bucket{Rate: r.IngressRate, Burst: r.IngressBurst / 8},
		In:  link.Bucket{Rate: r.EgressRate, Burst: r.EgressBurst / 8},
		IFB: ifbName(n, e.ID), Alias: limitsPrefix(n) + fmt.Sprintf("%.100s", e.ID),
	}
}

func validateRates(e bowline.EndpointSpec) error {
	if err := e.Rates.Validate(); err != nil {
		return fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	return nil
}

// Shape implements [bowline.Shaper].
func (d *driver) Shape(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := validateRates(e); err != nil {
		return err
	}
	return d.host.Limit(ctx, outerName(n, e.ID), limits(n, e))
}

// ensureLimits sees to the limits of an outer end that was there before, if it
// is to have any.
func (d *driver) ensureLimits(ctx context.Context, made bool, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if made || e.Rates == (bowline.Rates{}) {
		return nil
	}
	return d.host.Limit(ctx, outerName(n, e.ID), limits(n, e))
}

// diffLimits returns how the limits differ. Those of an endpoint that is to have
// none are nobody's business: another plugin of the chain may have made them.
func (d *driver) diffLimits(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) ([]bowline.Difference, error) {
	if e.Rates == (bowline.Rates{}) {
		return nil, nil
	}
	return d.host.CheckLimits(ctx, outerName(n, e.ID), limits(n, e))
}
