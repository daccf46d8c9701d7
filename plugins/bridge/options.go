package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/plugin"
	"github.com/bowline-net/bowline/internal/tune"
)

// options are the keys of a network, those of the reference bridge plugin and
// our own.
type options struct {
	bridge                    string
	mtu                       int
	isGateway                 bool
	isDefaultGateway          bool
	forceAddress              bool
	ipMasq                    bool
	masqBackend               string
	hairpin                   bool
	promisc                   bool
	vlan                      int
	vlanTrunk                 []vlanRange
	preserveDefaultVLAN       bool
	macSpoofCheck             bool
	dad                       bool
	disableContainerInterface bool
	portIsolation             bool
	internal                  bool
	icc                       bool
	firewall                  string
	announce                  bool
	acd                       bool
	policy                    string
	tuning                    tune.Options
	accessOptions
	publishOptions
}

// A vlanRange is what one entry of vlanTrunk allows on the port, tagged.
type vlanRange struct{ min, max int }

func (o *options) flags() *flag.FlagSet {
	fs := plugin.NewOptions()
	plugin.LinkVar(fs, &o.bridge, "bridge", "`NAME` of the bridge, made if there is none (default: one of the network's own)")
	plugin.IntVar(fs, &o.mtu, "mtu", 0, 65535, "largest IP packet in `BYTES`, 68 to 65535 (default: that of the bridge, at first that of the default route's link)")
	fs.BoolVar(&o.isGateway, "isGateway", false, "`BOOL`: give the bridge the gateway's addresses and forward")
	fs.BoolVar(&o.isDefaultGateway, "isDefaultGateway", false, "`BOOL`: isGateway, and containers get a default route")
	fs.BoolVar(&o.forceAddress, "forceAddress", false, "`BOOL`: replace an address of the bridge that is in the way")
	fs.BoolVar(&o.ipMasq, "ipMasq", false, "`BOOL`: hide containers behind the host's address where traffic leaves the network")
	plugin.EnumVar(fs, &o.masqBackend, "ipMasqBackend", []string{"", "nftables", "iptables"}, "`WORD` of the reference plugin, nftables or iptables: accepted, rules are nftables either way")
	fs.BoolVar(&o.hairpin, "hairpinMode", false, "`BOOL`: let a container reach itself through the bridge")
	fs.BoolVar(&o.promisc, "promiscMode", false, "`BOOL`: put the bridge in promiscuous mode")
	plugin.IntVar(fs, &o.vlan, "vlan", 0, 4094, "`ID` of the container's VLAN, 1 to 4094 (0: none)")
	fs.Func("vlanTrunk", "`LIST` of tagged VLANs such as 10,20-30, or as the reference plugin has it", func(s string) (err error) {
		o.vlanTrunk, err = parseTrunk(s)
		return err
	})
	fs.BoolVar(&o.preserveDefaultVLAN, "preserveDefaultVlan", false, "`BOOL`: keep VLAN 1 on the port beside vlan or vlanTrunk")
	fs.BoolVar(&o.macSpoofCheck, "macspoofchk", false, "`BOOL`: drop what a container sends from another MAC than its own")
	fs.BoolVar(&o.dad, "enabledad", false, "`BOOL`: wait for IPv6 duplicate address detection, 1 to 2 s")
	fs.BoolVar(&o.disableContainerInterface, "disableContainerInterface", false, "`BOOL`: leave the container's link down; needs a network without ipam")
	fs.BoolVar(&o.portIsolation, "portIsolation", false, "`BOOL`: containers reach the bridge, not each other")
	fs.BoolVar(&o.internal, "internal", false, "`BOOL`: no way into or out of the network")
	fs.BoolVar(&o.icc, "icc", true, "`BOOL`: containers of the network reach each other (default true)")
	fs.BoolVar(&o.acd, "acd", false, "`BOOL`: ask for up to 0.1 s whether another host has an address before a container gets it; for a bridge with a NIC")
	fs.BoolVar(&o.announce, "announce", true, "`BOOL`: tell neighbours of a new container's addresses (default true)")
	plugin.EnumVar(fs, &o.firewall, "firewall", []string{"nft", "none"}, "`WORD`: nft, or none to touch no rules (default nft)")
	endpoint.RateFlags(fs)
	endpoint.PolicyFlag(fs, &o.policy)
	endpoint.DHCPFlag(fs)
	plugin.MACVar(fs, new(net.HardwareAddr), "mac", "unicast `ADDRESS` of the container's link, for a network of one container")
	o.tuning.Flags(fs)
	fs.Func("dataDir", "`PATH` of the reference tuning plugin: accepted, what is to be restored is in our records", func(string) error { return nil })
	o.accessOptions.flags(fs)
	o.publishOptions.flags(fs)
	return fs
}

// parseOptions reads the network's options. The error wraps [bowline.ErrInvalid].
func parseOptions(n bowline.NetworkConfig) (options, error) {
	o := options{firewall: "nft"}
	place := fmt.Sprintf("network %q", n.ID)
	if err := plugin.ParseOptions(o.flags(), place, n.Options); err != nil {
		return options{}, err
	}
	if o.isDefaultGateway {
		o.isGateway = true
	}
	if o.ingressPolicy == "isolated" {
		o.icc = false
	}
	if err := endpoint.CheckPolicy(place, o.policy); err != nil {
		return options{}, err
	}
	if err := o.readConditions(place); err != nil {
		return options{}, err
	}
	if err := endpoint.ValidateMTU(bowline.NetworkConfig{ID: n.ID}, o.mtu); err != nil {
		return options{}, err
	}
	return o, o.validate(place)
}

// validate finds combinations that cannot work.
func (o options) validate(place string) error {
	wrong := func(format string, args ...any) error {
		return bowline.Wrong(bowline.ErrInvalid, place+": "+fmt.Sprintf(format, args...))
	}
	switch {
	case o.hairpin && o.promisc:
		return wrong(`options hairpinMode="true" and promiscMode="true": want one of them at most`)
	case o.firewall == "none" && o.ipMasq:
		return wrong(`options firewall="none" and ipMasq="true": want firewall="nft", for masquerading takes a rule`)
	case o.firewall == "none" && o.internal:
		return wrong(`options firewall="none" and internal="true": want firewall="nft", for an internal network takes rules`)
	case o.firewall == "none" && o.policy != "":
		return wrong(`options firewall="none" and policy=%q: want firewall="nft", for a policy takes rules`, o.policy)
	case o.firewall == "none" && o.macSpoofCheck:
		return wrong(`options firewall="none" and macspoofchk="true": want firewall="nft", for the check takes a rule`)
	}
	for _, r := range o.vlanTrunk {
		if o.vlan >= r.min && o.vlan <= r.max && o.vlan != 0 {
			return wrong("options vlan=\"%d\" and vlanTrunk %d-%d: want a VLAN that the trunk does not have", o.vlan, r.min, r.max)
		}
	}
	if o.firewall == "none" && o.publishPolicy == respectInput {
		return wrong(`options firewall="none" and publish-policy="respect-input": want firewall="nft", for publishing takes rules`)
	}
	return o.validateAccess(wrong)
}

// vlans reports whether the bridge must filter VLANs.
func (o options) vlans() bool { return o.vlan != 0 || len(o.vlanTrunk) > 0 }

// parseTrunk reads 10,20-30 or the reference plugin's
// [{"id": 10}, {"minID": 20, "maxID": 30}].
func parseTrunk(s string) ([]vlanRange, error) {
	var rs []vlanRange
	if strings.HasPrefix(s, "[") {
		var list []struct{ ID, MinID, MaxID *int }
		if err := json.Unmarshal([]byte(s), &list); err != nil {
			return nil, err
		}
		for _, v := range list {
			if v.ID != nil {
				rs = append(rs, vlanRange{*v.ID, *v.ID})
			}
			switch {
			case v.MinID != nil && v.MaxID != nil:
				rs = append(rs, vlanRange{*v.MinID, *v.MaxID})
			case v.MinID != nil || v.MaxID != nil || v.ID == nil:
				return nil, errors.New("want id, or minID and maxID")
			}
		}
	} else if s != "" {
		for _, part := range strings.Split(s, ",") {
			lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
			if !isRange {
				hi = lo
			}
			a, err1 := strconv.Atoi(lo)
			b, err2 := strconv.Atoi(hi)
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			rs = append(rs, vlanRange{a, b})
		}
	}
	for _, r := range rs {
		if r.min < 1 || r.max > 4094 || r.min > r.max {
			return nil, errors.New("want 1 to 4094")
		}
	}
	return rs, nil
}
