package main

import (
	"context"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

// ifbName names the link that what the endpoint sends waits at.
func ifbName(n bowline.NetworkConfig, endpoint string) string {
	return bowline.LinkName("bwf", n.ID, endpoint)
}

// limits are e's rates as its outer end has them.
func limits(n bowline.NetworkConfig, e bowline.EndpointSpec) link.Limits {
	return endpoint.Limits(n, e, ifbName(n, e.ID))
}

// Shape implements [bowline.Shaper].
func (d *driver) Shape(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := endpoint.ValidateRates(e); err != nil {
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
