package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net"
	"path"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/plugin"
	"github.com/bowline-net/bowline/internal/tune"
)

// options are the keys of a network, those of the reference host-device plugin
// and our own.
type options struct {
	want             wanted
	force            bool
	keep             bool // the NIC's own addresses, where there is no IPAM
	mtu              int
	isDefaultGateway bool
	internal         bool
	acd              bool
	dad              bool
	announce         bool
	policy           string
	mac              net.HardwareAddr // of an endpoint; nil: as the NIC has it
	tuning           tune.Options
}

// wanted says which NIC, in one way; the zero wanted says none.
type wanted struct {
	device     string // its name
	hwaddr     string // its MAC, as net.HardwareAddr prints it
	kernelPath string // of its device, below /sys/devices
	pciBusID   string // address of its device on the PCI bus
	deviceID   string // the same, or its name on the auxiliary bus
}

func (o *options) flags() *flag.FlagSet {
	fs := plugin.NewOptions()
	plugin.LinkVar(fs, &o.want.device, "device", "`NAME` of the NIC")
	fs.Func("hwaddr", "`ADDRESS` of the NIC, such as 02:00:00:00:00:01", func(s string) error {
		mac, err := net.ParseMAC(s)
		o.want.hwaddr = mac.String()
		return err
	})
	fs.Func("kernelpath", "`PATH` of the NIC's device below /sys/devices, such as /sys/devices/pci0000:00/0000:00:1f.6", func(s string) error {
		if o.want.kernelPath = path.Clean(s); s == "" || !strings.HasPrefix(o.want.kernelPath, "/sys/devices/") {
			return errors.New("not below /sys/devices")
		}
		return nil
	})
	busVar(fs, &o.want.pciBusID, "pciBusID", "`ADDRESS` of the NIC on the PCI bus, such as 0000:00:1f.6")
	fs.BoolVar(&o.force, "force", false, "`BOOL`: take the NIC even if the host relies on it: for its default route, as a port of a bridge, below VLANs and macvlans")
	o.keep = true
	fs.BoolVar(&o.keep, "useInterfaceNetwork", true, "`BOOL`: without ipam the NIC keeps its addresses and routes (default true)")
	plugin.IntVar(fs, &o.mtu, "mtu", 0, 65535, "largest IP packet in `BYTES`, 68 to 65535 (default: as the NIC has it)")
	fs.BoolVar(&o.isDefaultGateway, "isDefaultGateway", false, "`BOOL`: a default route through the gateway that ipam names (with Docker default true)")
	fs.BoolVar(&o.internal, "internal", false, "`BOOL`: containers get no default route")
	fs.BoolVar(&o.acd, "acd", true, "`BOOL`: ask the LAN whether somebody has an address of ipam before a container gets it, for up to 0.1 s (default true)")
	fs.BoolVar(&o.dad, "enabledad", false, "`BOOL`: wait for the kernel's IPv6 duplicate address detection, 1 to 2 s")
	fs.BoolVar(&o.announce, "announce", true, "`BOOL`: tell neighbours of a new container's addresses (default true)")
	endpoint.RateFlags(fs)
	endpoint.PolicyFlag(fs, &o.policy)
	o.tuning.Flags(fs)
	return fs
}

// busVar adds a flag for the name of a device on a bus.
func busVar(fs *flag.FlagSet, p *string, name, usage string) {
	fs.Func(name, usage, func(s string) error {
		if s == "" || strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:._-") != "" || s[0] == '.' {
			return errors.New("not a name on a bus")
		}
		*p = s
		return nil
	})
}

// parseOptions reads the network's options. The error wraps [bowline.ErrInvalid].
func parseOptions(n bowline.NetworkConfig) (options, error) {
	var o options
	if err := plugin.ParseOptions(o.flags(), fmt.Sprintf("network %q", n.ID), n.Options); err != nil {
		return options{}, err
	}
	if err := endpoint.CheckPolicy(fmt.Sprintf("network %q", n.ID), o.policy); err != nil {
		return options{}, err
	}
	if ways := o.want.ways(); len(ways) > 1 {
		return options{}, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: options %s: want one of them, which says all", n.ID, strings.Join(ways, " and ")))
	}
	return o, endpoint.ValidateMTU(n, o.mtu)
}

// ways are the options that say which NIC.
func (w wanted) ways() []string {
	var all []string
	for _, kv := range [][2]string{{"device", w.device}, {"hwaddr", w.hwaddr}, {"kernelpath", w.kernelPath}, {"pciBusID", w.pciBusID}, {"deviceID", w.deviceID}} {
		if kv[1] != "" {
			all = append(all, fmt.Sprintf("%s=%q", kv[0], kv[1]))
		}
	}
	return all
}

// String returns the option as messages name it.
func (w wanted) String() string { return strings.Join(w.ways(), " and ") }

// endpointOptions are the keys of one endpoint.
type endpointOptions struct {
	endpoint.Options
	deviceID string
}

func (o *endpointOptions) flags() *flag.FlagSet {
	fs := o.Flags()
	busVar(fs, &o.deviceID, "deviceID", "`ADDRESS` on the PCI bus, or name on the auxiliary bus, of the NIC that the engine has chosen")
	return fs
}

// parseEndpoint reads the options of the endpoint, and its network's with what
// the endpoint's say in their place.
func parseEndpoint(n bowline.NetworkConfig, e bowline.EndpointSpec) (options, error) {
	o, err := parseOptions(n)
	if err != nil {
		return options{}, err
	}
	var own endpointOptions
	place := fmt.Sprintf("endpoint %q", e.ID)
	if err := plugin.ParseOptions(own.flags(), place, e.Options); err != nil {
		return options{}, err
	}
	o.mtu, o.tuning, o.mac = cmp.Or(own.MTU, o.mtu), o.tuning.With(own.Tuning), e.MAC
	if o.mac == nil {
		o.mac = own.MAC
	}
	if own.deviceID != "" { // what the engine chose of many
		if o.want.pciBusID = ""; len(o.want.ways()) > 0 {
			return options{}, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: option deviceID=%q: want a network without option %s, which names another NIC", place, own.deviceID, o.want))
		}
		o.want.deviceID = own.deviceID
	}
	return o, nil
}
