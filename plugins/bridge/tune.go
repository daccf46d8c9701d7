package main

import (
	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/tune"
)

// tuning is what is asked for the endpoint: its own, then its network's.
func tuning(o options, e bowline.EndpointSpec) tune.Options {
	return o.tuning.With(endpoint.OptionsOf(e).Tuning)
}
