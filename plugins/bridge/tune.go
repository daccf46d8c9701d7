package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/plugin"
	"github.com/bowline-net/bowline/internal/tune"
)

// validateTuning finds settings that are not allowed on this host.
func validateTuning(place string, t tune.Options) error {
	if err := t.Allowed(tune.AllowList); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

// validateOwn finds what is wrong with the endpoint's own options by their value.
func validateOwn(e bowline.EndpointSpec) error {
	eo, err := parseEndpointOptions(e)
	if err != nil {
		return err
	}
	place := fmt.Sprintf("endpoint %q", e.ID)
	least := 68
	if slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		least = minMTU6
	}
	if eo.mtu != 0 && eo.mtu < least {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: option mtu=\"%d\": want %d to 65535 bytes", place, eo.mtu, least))
	}
	return validateTuning(place, eo.tuning)
}

// ownOptions returns the endpoint's options, which have been validated.
func ownOptions(e bowline.EndpointSpec) endpointOptions {
	eo, err := parseEndpointOptions(e)
	if err != nil {
		return endpointOptions{}
	}
	return eo
}

// tuning is what is asked for the endpoint: its own, then its network's.
func tuning(o options, e bowline.EndpointSpec) tune.Options {
	return o.tuning.With(ownOptions(e).tuning)
}

// diffTuning compares the container's link with what was asked for, if its
// sandbox is given.
func diffTuning(ctx context.Context, o options, e bowline.EndpointSpec) ([]bowline.Difference, error) {
	return tuning(o, e).Diff(ctx, e.Sandbox, e.IfName)
}

// networkMAC is the MAC that the network has for its container, or nil: as the
// reference tuning plugin has it, for networks of one.
func networkMAC(n bowline.NetworkConfig) (mac net.HardwareAddr) {
	if text := n.Options["mac"]; text != "" {
		mac, _ = plugin.ParseMAC(text) // validated with the other options
	}
	return mac
}
