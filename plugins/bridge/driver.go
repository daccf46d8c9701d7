package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/undo"
)

// A driver connects the containers of one host through Linux bridges: each
// endpoint is a veth whose outer end is a port of the network's bridge.
type driver struct {
	host  *link.Handle
	rules *nft.Handle
}

var (
	_ bowline.Driver         = (*driver)(nil)
	_ bowline.Validator      = (*driver)(nil)
	_ bowline.Planner        = (*driver)(nil)
	_ bowline.StatusReporter = (*driver)(nil)
	_ bowline.Collector      = (*driver)(nil)
	_ bowline.Shaper         = (*driver)(nil)
	_ bowline.Publisher      = (*driver)(nil)
)

// newDriver returns a driver for the host whose namespace is ns, or the
// process's own if ns is nil.
func newDriver(ns bowline.Namespace) (*driver, error) {
	host, err := link.Open(ns)
	if err != nil {
		return nil, err
	}
	return &driver{host, nft.Open(ns)}, nil
}

// bridgeName is the name that the network asks for, or one of its own.
func bridgeName(n bowline.NetworkConfig, o options) string {
	if o.bridge != "" {
		return o.bridge
	}
	return bowline.LinkName("bwb", n.ID)
}

func outerName(n bowline.NetworkConfig, endpoint string) string {
	return bowline.LinkName("bwo", n.ID, endpoint)
}

func innerName(n bowline.NetworkConfig, e bowline.EndpointSpec) string {
	if e.Sandbox != nil && e.IfName != "" {
		return e.IfName
	}
	return bowline.LinkName("bwi", n.ID, e.ID)
}

// ValidateNetwork implements [bowline.Validator].
func (d *driver) ValidateNetwork(n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	if _, err := bowline.RatesOf(n.Options); err != nil {
		return fmt.Errorf("network %q: %w", n.ID, err)
	}
	if err := endpoint.ValidateTuning(fmt.Sprintf("network %q", n.ID), o.tuning); err != nil {
		return err
	}
	if o.disableContainerInterface && len(n.Pools) > 0 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			`network %q: option disableContainerInterface="true": want a network without ipam, for a link that is down has no use for addresses`, n.ID))
	}
	return nil
}

// ValidateEndpoint implements [bowline.Validator].
func (d *driver) ValidateEndpoint(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	return errors.Join(endpoint.Validate(e), validatePolicy(n, e), validatePorts(n, e))
}

// PlanEndpoint implements [bowline.Planner].
func (d *driver) PlanEndpoint(n bowline.NetworkConfig, e bowline.EndpointSpec) (string, net.HardwareAddr, error) {
	mac, err := endpoint.MAC(n, e)
	return outerName(n, e.ID), mac, err
}

// CreateNetwork implements [bowline.Driver].
func (d *driver) CreateNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	if err := endpoint.ValidateMTU(n, o.mtu); err != nil {
		return err
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	br, made, err := d.ensureBridge(ctx, n, o)
	if err != nil {
		return err
	}
	if made {
		u.Push("delete bridge "+br.Name, func(ctx context.Context) error { return d.host.Delete(ctx, br.Name) })
	}
	if o.gatewayMode6 == modeIsolated && ours(br) {
		if err := d.isolate6(ctx, br.Name); err != nil {
			return err
		}
	}
	madeVLAN := false
	if o.isGateway {
		if madeVLAN, err = d.ensureGateways(ctx, &u, n, o, br); err != nil {
			return err
		}
	}
	if o.firewall == "nft" {
		if err := d.ensureRules(ctx, &u, n, o, made, madeVLAN); err != nil {
			return err
		}
	}
	u.Commit()
	return nil
}

// ensureBridge finds the network's bridge or makes it. The fast path is one
// question to the kernel.
func (d *driver) ensureBridge(ctx context.Context, n bowline.NetworkConfig, o options) (link.Info, bool, error) {
	name := bridgeName(n, o)
	br, err := d.host.Get(ctx, name)
	if errors.Is(err, bowline.ErrUnknown) {
		mtu, err := d.bridgeMTU(ctx, o)
		if err != nil {
			return link.Info{}, false, err
		}
		br, made, err := d.host.EnsureBridge(ctx, link.Bridge{
			Name: name, Alias: endpoint.NetworkAlias(n), MAC: bowline.MAC("bridge", name), MTU: mtu,
			VLANFiltering: o.vlans(), Promisc: o.promisc,
		})
		if err == nil && !made { // another process was faster, and may be at it still
			err = d.adopt(ctx, n, o, br)
		}
		return br, made, err
	}
	if err != nil {
		return link.Info{}, false, err
	}
	if br.Kind != "bridge" {
		return link.Info{}, false, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: option bridge=%q: a link of that name exists already and is not a bridge", n.ID, name))
	}
	return br, false, d.adopt(ctx, n, o, br)
}

// ours reports whether we made the bridge. The alias says so, which the kernel
// takes after birth only; if a kill came before it, the MAC does.
func ours(br link.Info) bool {
	return strings.HasPrefix(br.Alias, endpoint.NetworkMark) || bytes.Equal(br.MAC, bowline.MAC("bridge", br.Name))
}

// adopt brings a bridge that was there to what the network asks for. Its MTU
// only ever grows, for its other ports rely on it.
func (d *driver) adopt(ctx context.Context, n bowline.NetworkConfig, o options, br link.Info) error {
	c := link.Change{Up: !br.Up, Promisc: o.promisc}
	if o.mtu > br.MTU {
		c.MTU = o.mtu
	}
	if br.Alias == "" && ours(br) { // made, but not finished
		mtu, err := d.bridgeMTU(ctx, o)
		if err != nil {
			return err
		}
		c.Alias, c.MTU = endpoint.NetworkAlias(n), mtu
		if _, err := d.host.SetSysctl(ctx, "net/ipv6/conf/"+br.Name+"/accept_ra", "0"); err != nil && !errors.Is(err, bowline.ErrNoKernel) {
			return err
		}
	}
	if c.Up || c.Promisc || c.MTU != 0 || c.Alias != "" {
		if err := d.host.Set(ctx, br.Name, c); err != nil {
			return err
		}
	}
	if o.vlans() {
		return d.host.EnableVLANFiltering(ctx, br.Name)
	}
	return nil
}

// bridgeMTU is that of a new bridge.
func (d *driver) bridgeMTU(ctx context.Context, o options) (int, error) {
	if o.mtu != 0 {
		return o.mtu, nil
	}
	l, err := d.host.DefaultLink(ctx)
	if errors.Is(err, bowline.ErrUnknown) {
		return 1500, nil
	}
	return l.MTU, err
}

// CreateEndpoint implements [bowline.Driver].
func (d *driver) CreateEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) (bowline.Attachment, error) {
	o, err := parseOptions(n)
	if err != nil {
		return bowline.Attachment{}, err
	}
	mac, err := endpoint.MAC(n, e)
	if err != nil {
		return bowline.Attachment{}, err
	}
	br, err := d.host.Get(ctx, bridgeName(n, o))
	if err != nil {
		return bowline.Attachment{}, err
	}
	if err := o.validatePorts(n, e); err != nil {
		return bowline.Attachment{}, err
	}
	if len(e.Addrs) == 0 {
		e.Ports = nil // published when it is asked for again with its addresses
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	v, made, err := d.makeVeth(ctx, &u, n, o, e, br, mac)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if err := d.ensureLimits(ctx, made, n, e); err != nil {
		return bowline.Attachment{}, err
	}
	if v.MTU < br.MTU { // the kernel shrinks a bridge whose MTU nobody ever set to that of its least port
		if err := d.host.Set(ctx, br.Name, link.Change{MTU: br.MTU}); err != nil {
			return bowline.Attachment{}, err
		}
	}
	if !ours(br) { // its MAC may be that of its first port
		if br, err = d.host.Get(ctx, br.Name); err != nil {
			return bowline.Attachment{}, err
		}
	}
	if o.vlans() {
		if err := d.host.SetPortVLANs(ctx, v.Name, portVLANs(o)); err != nil {
			return bowline.Attachment{}, err
		}
	}
	if o.firewall == "nft" {
		rn, re := ruleNetwork(n, o), ruleEndpoint(n, o, e, mac)
		if ownRules(o, e) {
			u.Push("delete firewall elements of "+e.ID, func(ctx context.Context) error { return d.rules.DeleteEndpoint(ctx, rn, re) })
		}
		if e.Ports, err = d.createRules(ctx, n, o, br, e, mac); err != nil {
			return bowline.Attachment{}, err
		}
	}
	u.Commit()
	return attachment(n, o, e, br, v), nil
}

// makeVeth makes the endpoint's pair, or makes sure of it, and reports whether it
// made it.
func (d *driver) makeVeth(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, o options, e bowline.EndpointSpec, br link.Info, mac net.HardwareAddr) (v link.Veth, made bool, err error) {
	v = veth(n, o, e, br, mac)
	if v.Port, err = d.portOf(ctx, n, o, e); err != nil {
		return v, false, err
	}
	if made, err = d.ensureVeth(ctx, v); err != nil {
		return v, false, err
	}
	if made {
		u.Push("delete veth "+v.Name, func(ctx context.Context) error { return d.host.Delete(ctx, v.Name, v.Limits.IFB) })
	} else if len(e.Ports) > 0 { // it may have been made before they were known
		err = d.host.Set(ctx, v.Name, link.Change{Port: v.Port})
	}
	return v, made, err
}

// ensureVeth makes the pair unless it is there as asked for. It reports whether
// it made it.
func (d *driver) ensureVeth(ctx context.Context, v link.Veth) (bool, error) {
	err := d.host.CreateVeth(ctx, v)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	if _, outerErr := d.host.Get(ctx, v.Name); errors.Is(outerErr, bowline.ErrUnknown) {
		return false, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("add link %s: the sandbox has a link of that name already", v.Peer))
	}
	same, err := d.host.IsVeth(ctx, v)
	if err != nil || same {
		return false, err
	}
	return false, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("add veth %s: it exists already with another peer than %s", v.Name, v.Peer))
}

func attachment(n bowline.NetworkConfig, o options, e bowline.EndpointSpec, br link.Info, v link.Veth) bowline.Attachment {
	a := bowline.Attachment{
		Link: v.Peer, MAC: v.PeerMAC, MTU: v.MTU, Addrs: e.Addrs, Down: o.disableContainerInterface, DAD: o.dad, Quiet: !o.announce,
		Shared: o.acd, Sysctls: tuning(o, e).Sysctls, Tuning: v.Tuning,
		Ports: e.Ports,
		Host:  []bowline.Link{{Name: br.Name, MAC: br.MAC, MTU: br.MTU}, {Name: v.Name, MAC: v.MAC, MTU: v.MTU}},
	}
	if o.isGateway {
		for _, p := range o.gatewayPools(n) {
			a.Pools = append(a.Pools, bowline.Pool{Prefix: p.Prefix, Gateway: poolGateway(p)})
		}
	}
	if o.isDefaultGateway && !o.internal {
		a.Gateways = endpoint.Gateways(n, e, poolGateway)
	}
	return a
}

// poolGateway is the pool's gateway, or its first host.
func poolGateway(p bowline.Pool) netip.Addr {
	if p.Gateway.IsValid() {
		return p.Gateway
	}
	return p.Prefix.Masked().Addr().Next()
}
