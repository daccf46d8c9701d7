package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bowline-net/bowline/runtime"
)

type networkFlags struct {
	conf              string
	subnets, gateways []string
	options           []string
	spec              runtime.NetworkSpec
}

func (a *app) networkCreate() *cobra.Command {
	var o networkFlags
	c := &cobra.Command{
		Use:   "create [flags] NAME",
		Short: "create a network",
		Long: "create records a network and asks its plugin whether the options are right.\n" +
			"The first connect brings it to life",
		Example: "  bowline network create web --ipv6\n" +
			"  bowline network create lab --subnet 10.1.0.0/24 --subnet fd00:1::/64 --opt vlan=7 --internal\n" +
			"  bowline network create lan --driver macvlan --opt parent=eth1 --opt host-access=true --subnet 192.0.2.0/24\n" +
			"  bowline network create nic --driver host --opt device=eth2\n" +
			"  bowline network create --conf /etc/cni/net.d/10-other.conflist",
		Args: func(cmd *cobra.Command, given []string) error {
			if o.conf != "" && len(given) == 0 {
				return nil
			}
			return args("NAME")(cmd, given)
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) == 1 {
				o.spec.Name = given[0]
			}
			return a.createNetwork(cmd, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.conf, "conf", "", "take the CNI configuration of any plugin from `FILE`, - is standard input")
	f.StringVar(&o.spec.Driver, "driver", "bridge", "plugin bowline-`DRIVER`")
	f.StringVar(&o.spec.IPAM, "ipam", "bowline-ipam", "`PLUGIN` that gives addresses, or none")
	f.StringArrayVar(&o.subnets, "subnet", nil, "give addresses from `PREFIX`; repeat for more (default: a free IPv4 one)")
	f.BoolVar(&o.spec.IPv6, "ipv6", false, "add a free IPv6 subnet if none is named")
	f.StringArrayVar(&o.gateways, "gateway", nil, "`ADDRESS` of the gateway in its subnet (default: the first)")
	f.BoolVar(&o.spec.Internal, "internal", false, "no way out of the network")
	f.BoolVar(&o.spec.NoICC, "no-icc", false, "containers do not reach each other")
	f.IntVar(&o.spec.MTU, "mtu", 0, "largest IP packet in `BYTES` (default: the plugin chooses)")
	f.StringArrayVar(&o.options, "opt", nil, "any other `KEY=VALUE` of the plugin; repeat for more")
	f.SortFlags = false
	return c
}

func (a *app) createNetwork(cmd *cobra.Command, o networkFlags) error {
	if err := o.parse(cmd.Flags()); err != nil {
		return err
	}
	n, err := a.runtime().CreateNetwork(cmd.Context(), o.spec)
	if err != nil {
		return err
	}
	return a.print(n, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\n", n.Name, join(n.Subnets)) })
}

// parse moves what was given as text into o.spec.
func (o *networkFlags) parse(given *pflag.FlagSet) (err error) {
	for _, s := range o.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil || p != p.Masked() {
			return usageError{fmt.Errorf("--subnet %s: want a prefix without host bits, such as 10.1.0.0/24 or fd00:1::/64", s)}
		}
		o.spec.Subnets = append(o.spec.Subnets, p)
	}
	if o.spec.Gateways, err = parseAddrs("--gateway", o.gateways); err != nil {
		return err
	}
	o.spec.Options = map[string]string{}
	for _, s := range o.options {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return usageError{fmt.Errorf("--opt %s: want KEY=VALUE", s)}
		}
		o.spec.Options[k] = v
	}
	if o.conf == "" {
		return nil
	}
	given.Visit(func(f *pflag.Flag) {
		if f.Name != "conf" && f.Name != "json" {
			err = usageError{fmt.Errorf("--%s cannot go with --conf, which says it all", f.Name)}
		}
	})
	if err != nil {
		return err
	}
	if o.conf == "-" {
		o.spec.Conf, err = io.ReadAll(os.Stdin)
	} else {
		o.spec.Conf, err = os.ReadFile(o.conf)
	}
	return err
}

func parseAddrs(flag string, texts []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, s := range texts {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return nil, usageError{fmt.Errorf("%s %s: want an IPv4 or IPv6 address", flag, s)}
		}
		addrs = append(addrs, addr.Unmap())
	}
	return addrs, nil
}
