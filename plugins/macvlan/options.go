package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/plugin"
	"github.com/bowline-net/bowline/internal/tune"
)

// options are the keys of a network, those of the reference macvlan plugin and
// our own.
type options struct {
	parent, master  string // two names of one key
	mode            string
	sources         []net.HardwareAddr
	mtu             int
	linkInContainer bool
	bcQueueLen      int
	bcLim           *int
	defaultGateway  bool
	internal        bool
	hostAccess      bool
	hostAddrs       []netip.Addr
	acd             bool
	dad             bool
	announce        bool
	policy          string
	tuning          tune.Options
}

func (o *options) flags() *flag.FlagSet {
	fs := plugin.NewOptions()
	plugin.LinkVar(fs, &o.parent, "parent", "`NAME` of the link that containers are on; eth0.10 is made of eth0, with VLAN 10, if there is none (default: the default route's)")
	plugin.LinkVar(fs, &o.master, "master", "`NAME`: the same, as the reference plugin calls it")
	plugin.EnumVar(fs, &o.mode, "mode", append([]string{""}, link.Modes()...), "`WORD` for whom a container reaches of those on the parent: bridge, private, vepa, passthru or source (default bridge)")
	fs.Func("sources", "`LIST` of MACs such as 02:00:00:00:00:01,02:00:00:00:00:02 that containers hear, with mode source", func(s string) (err error) {
		o.sources, err = parseMACs(s)
		return err
	})
	plugin.IntVar(fs, &o.mtu, "mtu", 0, 65535, "largest IP packet in `BYTES`, 68 to that of the parent (default: that of the parent, as it changes)")
	fs.BoolVar(&o.linkInContainer, "linkInContainer", false, "`BOOL`: the parent is a link of the container")
	plugin.IntVar(fs, &o.bcQueueLen, "bcqueuelen", 0, 1<<31-1, "how many broadcast `PACKETS` may wait at the parent (default: as the kernel has it, 1000)")
	fs.Func("bclim", "up to how many `RECEIVERS` a broadcast does not wait, -1 to 2147483647 (default: as the kernel has it, 1)", func(s string) error {
		n := 0
		err := plugin.ParseInt(s, -1, 1<<31-1, &n)
		o.bcLim = &n
		return err
	})
	fs.BoolVar(&o.defaultGateway, "isDefaultGateway", false, "`BOOL`: containers get a default route through the gateway of their pool")
	fs.BoolVar(&o.internal, "internal", false, "`BOOL`: containers get no default route")
	fs.BoolVar(&o.hostAccess, "host-access", false, "`BOOL`: the host and its containers reach each other, which macvlans cannot by themselves; with mode bridge")
	fs.Func("hostAddresses", "`LIST` of the host's addresses, at most one per family, by which containers see it with host-access (default: those of the parent)", func(s string) (err error) {
		o.hostAddrs, err = parseHostAddrs(s)
		return err
	})
	fs.BoolVar(&o.acd, "acd", true, "`BOOL`: ask the LAN whether somebody has an address before a container gets it, for up to 0.1 s (default true)")
	fs.BoolVar(&o.dad, "enabledad", false, "`BOOL`: wait for the kernel's IPv6 duplicate address detection, 1 to 2 s")
	fs.BoolVar(&o.announce, "announce", true, "`BOOL`: tell neighbours of a new container's addresses (default true)")
	endpoint.DHCPFlag(fs)
	endpoint.RateFlags(fs)
	endpoint.PolicyFlag(fs, &o.policy)
	plugin.MACVar(fs, new(net.HardwareAddr), "mac", "unicast `ADDRESS` of the container's link, for a network of one container")
	o.tuning.Flags(fs)
	fs.Func("dataDir", "`PATH` of the reference tuning plugin: accepted, what is to be restored is in our records", func(string) error { return nil })
	return fs
}

// parseOptions reads the network's options. The error wraps [bowline.ErrInvalid].
func parseOptions(n bowline.NetworkConfig) (options, error) {
	var o options
	place := fmt.Sprintf("network %q", n.ID)
	if err := plugin.ParseOptions(o.flags(), place, n.Options); err != nil {
		return options{}, err
	}
	if err := endpoint.CheckPolicy(place, o.policy); err != nil {
		return options{}, err
	}
	if err := endpoint.ValidateMTU(bowline.NetworkConfig{ID: n.ID}, o.mtu); err != nil {
		return options{}, err
	}
	if o.parent != "" && o.master != "" && o.parent != o.master {
		return options{}, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: options parent=%q and master=%q mean the same key: want one of them", place, o.parent, o.master))
	}
	if o.parent == "" {
		o.parent = o.master
	}
	if o.mode == "" {
		o.mode = link.ModeBridge
	}
	return o, o.validate(place)
}

// validate finds combinations that cannot work.
func (o options) validate(place string) error {
	wrong := func(format string, args ...any) error {
		return bowline.Wrong(bowline.ErrInvalid, place+": "+fmt.Sprintf(format, args...))
	}
	switch {
	case o.mode == link.ModeSource && len(o.sources) == 0:
		return wrong(`option mode="source": want sources with it, the MACs that containers hear`)
	case o.mode != link.ModeSource && len(o.sources) > 0:
		return wrong(`options mode=%q and sources: want mode="source" with them`, o.mode)
	case o.hostAccess && o.mode != link.ModeBridge:
		return wrong(`options host-access="true" and mode=%q: want mode="bridge", for no other lets links on one parent reach each other`, o.mode)
	case o.hostAccess && o.linkInContainer:
		return wrong(`options host-access="true" and linkInContainer="true": want one of them, for the host has no part in a parent that a container has`)
	case len(o.hostAddrs) > 0 && !o.hostAccess:
		return wrong(`option hostAddresses: want host-access="true" with it`)
	case o.linkInContainer && o.parent == "":
		return wrong(`option linkInContainer="true": want parent with it, a link of the container`)
	}
	return nil
}

// parseMACs reads a,b or a list in JSON.
func parseMACs(s string) ([]net.HardwareAddr, error) {
	var texts []string
	if strings.HasPrefix(s, "[") {
		if err := json.Unmarshal([]byte(s), &texts); err != nil {
			return nil, err
		}
	} else {
		texts = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	}
	var macs []net.HardwareAddr
	for _, t := range texts {
		mac, err := plugin.ParseMAC(t)
		if err != nil {
			return nil, err
		}
		macs = append(macs, mac)
	}
	return macs, nil
}

// parseHostAddrs reads one address per family at most.
func parseHostAddrs(s string) ([]netip.Addr, error) {
	var as []netip.Addr
	for t := range strings.SplitSeq(s, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(t))
		if err != nil {
			return nil, err
		}
		if a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || len(as) > 0 && as[0].Is4() == a.Is4() || len(as) > 1 {
			return nil, errors.New("want a unicast address per family at most")
		}
		as = append(as, a)
	}
	return as, nil
}
