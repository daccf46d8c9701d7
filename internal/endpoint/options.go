package endpoint

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/plugin"
	"github.com/bowline-net/bowline/internal/tune"
)

// MinMTU is the least MTU of a link in bytes (RFC 791, 3.1), MinMTU6 that of one
// with IPv6 (RFC 8200, 5).
const (
	MinMTU  = 68
	MinMTU6 = 1280
)

// Options are the keys of one endpoint.
type Options struct {
	MAC    net.HardwareAddr
	MTU    int // bytes; 0: that of the network
	Policy string
	Tuning tune.Options
}

// Flags returns the grammar of an endpoint's options.
func (o *Options) Flags() *flag.FlagSet {
	fs := plugin.NewOptions()
	plugin.MACVar(fs, &o.MAC, "mac", "unicast `ADDRESS` of the container's link, such as 02:00:00:00:00:01")
	plugin.IntVar(fs, &o.MTU, "mtu", 0, 65535, "largest IP packet in `BYTES`, 68 to 65535 (default: that of the network)")
	o.Tuning.Flags(fs)
	RateFlags(fs)
	PolicyFlag(fs, &o.Policy)
	return fs
}

// Parse reads the endpoint's options. The error wraps
// [bowline.ErrInvalid].
func Parse(e bowline.EndpointSpec) (Options, error) {
	var o Options
	if len(e.Options) == 0 {
		return o, nil
	}
	place := fmt.Sprintf("endpoint %q", e.ID)
	err := plugin.ParseOptions(o.Flags(), place, e.Options)
	if err == nil {
		err = CheckPolicy(place, o.Policy)
	}
	return o, err
}

// OptionsOf returns the options of an endpoint that has been validated.
func OptionsOf(e bowline.EndpointSpec) Options {
	o, err := Parse(e)
	if err != nil {
		return Options{}
	}
	return o
}

// Validate finds what is wrong with the endpoint's own options and
// rates.
func Validate(e bowline.EndpointSpec) error {
	o, err := Parse(e)
	if err != nil {
		return err
	}
	place := fmt.Sprintf("endpoint %q", e.ID)
	least := MinMTU
	if slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		least = MinMTU6
	}
	if o.MTU != 0 && o.MTU < least {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: option mtu=\"%d\": want %d to 65535 bytes", place, o.MTU, least))
	}
	return errors.Join(ValidateTuning(place, o.Tuning), ValidateRates(e))
}

// ValidateRates finds rates that cannot be kept.
func ValidateRates(e bowline.EndpointSpec) error {
	if err := e.Rates.Validate(); err != nil {
		return fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	return nil
}

// ValidateTuning finds settings that are not allowed on this host.
func ValidateTuning(place string, t tune.Options) error {
	if err := t.Allowed(tune.AllowList); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

// ValidateMTU finds an MTU of a network that is too small for its links, or for
// IPv6 if it has addresses of that.
func ValidateMTU(n bowline.NetworkConfig, mtu int) error {
	switch {
	case mtu != 0 && mtu < MinMTU:
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: option mtu=\"%d\": want largest IP packet in bytes, 68 to 65535", n.ID, mtu))
	case mtu != 0 && mtu < MinMTU6 && slices.ContainsFunc(n.Pools, func(p bowline.Pool) bool { return p.Prefix.Addr().Is6() }):
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: option mtu=\"%d\": want at least %d bytes, for the network has IPv6 addresses", n.ID, mtu, MinMTU6))
	}
	return nil
}

// DHCPFlag adds the key, which the face of Docker reads: addresses come from the
// DHCP server of the LAN. It is the engines' own IPAM that says so for CNI.
func DHCPFlag(fs *flag.FlagSet) {
	fs.Bool("dhcp", false, "`BOOL`, for Docker networks with --ipam-driver null: containers get addresses of the LAN's DHCP server, by bowline-dhcp")
}

// RateFlags puts the keys of rates into a grammar: of a network, whose endpoints
// have them unless they have their own, or of an endpoint. The faces read them
// into EndpointSpec.Rates; here they are looked at only, so that a wrong one is
// told before anything is done.
func RateFlags(fs *flag.FlagSet) {
	check := func(s string) error {
		_, err := bowline.ParseRate(s)
		return err
	}
	fs.Func("ingressRate", "`RATE` towards the container in bit/s, such as 100mbit (0: no limit)", check)
	fs.Func("ingressBurst", "`BITS` that may come at once (default: what suits the rate)", check)
	fs.Func("egressRate", "`RATE` from the container in bit/s, such as 100mbit (0: no limit)", check)
	fs.Func("egressBurst", "`BITS` that may go at once (default: what suits the rate)", check)
}
