package runtime

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/bowline-net/bowline"
)

// What a burst is unless it is given, in bits: what passes in 25 ms, and 16 KiB
// at least, as in our own plugins.
const (
	burstsPerSecond = 40
	leastBurst      = 16 << 10 * 8
)

// requestRates puts the rates that c asks for where plugins look for them.
func (a *Attachment) requestRates(list *libcni.NetworkConfigList, c ConnectSpec) error {
	r := c.Rates
	if r == (bowline.Rates{}) {
		return nil
	}
	if err := r.Validate(); err != nil {
		return fmt.Errorf("connect to network %q: %w", c.Network, err)
	}
	const capability = "bandwidth"
	if !capable(list, capability) {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			`network %q: rates requested: want "capabilities": {"bandwidth": true} for a plugin of its configuration that limits, such as bowline-bridge`, c.Network))
	}
	others := slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool {
		return p.Network.Capabilities[capability] && !strings.HasPrefix(p.Network.Type, ownPrefix)
	})
	limits := map[string]uint64{}
	for _, d := range []struct {
		direction   string
		rate, burst uint64
	}{{"ingress", r.IngressRate, r.IngressBurst}, {"egress", r.EgressRate, r.EgressBurst}} {
		if d.rate == 0 {
			continue
		}
		if d.burst == 0 && others { // the reference plugin refuses a rate without one
			d.burst = max(d.rate/burstsPerSecond, leastBurst)
		}
		limits[d.direction+"Rate"] = d.rate
		if d.burst != 0 {
			limits[d.direction+"Burst"] = d.burst
		}
	}
	a.Capabilities[capability] = limits
	return nil
}

// ratesKept returns an error if our plugin was asked for the rates of c and has
// others: those in a network's own configuration win.
func (r *Runtime) ratesKept(ctx context.Context, list *libcni.NetworkConfigList, a Attachment, c ConnectSpec) error {
	driver, ours := strings.CutPrefix(a.Plugin, ownPrefix)
	if c.Rates == (bowline.Rates{}) || !ours || !list.Plugins[0].Network.Capabilities["bandwidth"] {
		return nil
	}
	e, err := r.endpoints.Get(ctx, driver, a.Network, a.ContainerID+"/"+a.IfName)
	if err != nil || e.Rates.IngressRate == c.Rates.IngressRate && e.Rates.EgressRate == c.Rates.EgressRate {
		return err
	}
	return bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf(
		`%s ignored the requested rates, for the configuration of network %q has ingressRate=%s and egressRate=%s: want a network without them, or bowline shape afterwards`,
		a.Plugin, a.Network, bowline.FormatRate(e.Rates.IngressRate), bowline.FormatRate(e.Rates.EgressRate)))
}
