package main

import (
	"context"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/tune"
)

// tuning is what is asked for the endpoint: its own, then its network's.
func tuning(o options, e bowline.EndpointSpec) tune.Options {
	return o.tuning.With(endpoint.OptionsOf(e).Tuning)
}

// diffTuning compares the container's link with what was asked for, if its
// sandbox is given.
func diffTuning(ctx context.Context, o options, e bowline.EndpointSpec) ([]bowline.Difference, error) {
	return tuning(o, e).Diff(ctx, e.Sandbox, e.IfName)
}
