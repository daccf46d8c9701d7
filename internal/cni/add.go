package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/undo"
)

// add attaches the container. After an error nothing of the attachment is left;
// what its network shares may be.
func (o op) add(ctx context.Context) (*types100.Result, error) {
	sandbox, err := o.openSandbox(ctx)
	if err != nil {
		return nil, err
	}
	defer sandbox.Close()
	e, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	e.Sandbox = sandbox
	if e.Policy, err = o.policy(); err != nil {
		return nil, err
	}
	n := o.network(nil)
	if err := o.validate(n, e); err != nil {
		return nil, err
	}
	ipam, err := o.ipam()
	if err != nil {
		return nil, err
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	record, err := o.begin(ctx, ipam, sandbox)
	if err != nil {
		return nil, err
	}
	u.Push("delete record", func(ctx context.Context) error {
		return o.endpoints.Delete(ctx, record.Driver, record.Network, record.ID)
	})
	lease, err := o.allocate(ctx, &u, ipam, record, e)
	if err != nil {
		return nil, err
	}
	s, err := o.settle(ctx, &u, sandbox, ipam, record, e, lease)
	if err != nil {
		return nil, err
	}
	record.Routes = s.lease.routes
	n, e, a, lease := s.n, s.e, s.a, s.lease
	lease.adopt(a)
	lease.applyGateways(a)
	if err := o.remember(ctx, &u, sandbox, &record, n, e, a); err != nil {
		return nil, err
	}
	if err := dress(ctx, sandbox, a, lease.routes, true); err != nil {
		return nil, err
	}
	if err := o.finish(ctx, record, n, e, a); err != nil {
		return nil, err
	}
	u.Commit()
	return o.result(a, lease), nil
}

// allocate takes addresses. Some plugins, dhcp for one, work through the link:
// as with the reference it is there before they are asked.
func (o op) allocate(ctx context.Context, u *undo.Stack, ipam ipamCaller, r state.Endpoint, e bowline.EndpointSpec) (lease, error) {
	d, byExec := ipam.(delegated)
	if byExec && d.path == "" {
		return lease{}, d.missing()
	}
	if _, byDaemon := ipam.(leased); byExec || byDaemon {
		e.Policy = nil // what it says of its own network is not known yet
		if _, err := o.attach(ctx, u, r, o.network(nil), e); err != nil {
			return lease{}, err
		}
	}
	l, err := ipam.allocate(ctx, r.Sandbox)
	if err != nil {
		return lease{}, err
	}
	u.Push("release addresses", ipam.release)
	if dryOf(ctx) != nil && len(l.ips) == 0 { // a delegated plugin, which was not asked
		return l, nil
	}
	return l, l.check(o.Config)
}

// attach makes the endpoint, or makes sure of it once its addresses are known.
// The record comes first: nothing may be in the kernel, nor held by somebody
// else's IPAM plugin, that no record stands for.
func (o op) attach(ctx context.Context, u *undo.Stack, r state.Endpoint, n bowline.NetworkConfig, e bowline.EndpointSpec) (bowline.Attachment, error) {
	if err := o.record(ctx, r, n, e); err != nil {
		return bowline.Attachment{}, err
	}
	if err := o.Driver.CreateNetwork(ctx, n); err != nil {
		return bowline.Attachment{}, err
	}
	a, err := o.Driver.CreateEndpoint(ctx, n, e)
	if err == nil {
		u.Push("delete endpoint", func(ctx context.Context) error { return o.Driver.DeleteEndpoint(ctx, n, e) })
	}
	return a, err
}

// finish completes the record: a rename, unless the driver has chosen ports, or
// lent a link that has its MAC, and perhaps addresses, already.
func (o op) finish(ctx context.Context, r state.Endpoint, n bowline.NetworkConfig, e bowline.EndpointSpec, a bowline.Attachment) error {
	_, lends := o.Driver.(bowline.Lender)
	if lends || !slices.Equal(a.Ports, e.Ports) {
		e.Ports = a.Ports
		if lends {
			e.Addrs, e.MAC = a.Addrs, a.MAC
		}
		if err := o.record(ctx, r, n, e); err != nil {
			return err
		}
	}
	return o.endpoints.Finish(ctx, r)
}

// record writes the endpoint's record.
func (o op) record(ctx context.Context, r state.Endpoint, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	r.Pools = n.Pools
	r.SetSpec(e)
	if p, ok := o.Driver.(bowline.Planner); ok {
		link, mac, err := p.PlanEndpoint(n, e)
		if err != nil {
			return err
		}
		r.Link, r.MAC = link, mac.String()
	}
	return o.endpoints.Put(ctx, r)
}

// openSandbox opens CNI_NETNS and refuses the plugin's own namespace, before
// anything is done in it: skel checks that too, but after the plugin ran.
func (o op) openSandbox(ctx context.Context) (*netns.Handle, error) {
	if d := dryOf(ctx); d != nil {
		return o.drySandbox(d)
	}
	h, err := netns.Open(o.Netns)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: CodeUnknown, Msg: fmt.Sprintf("CNI_NETNS=%q: %v", o.Netns, err)}
	}
	if err != nil {
		return nil, &Error{Code: CodeNetns, Msg: fmt.Sprintf("CNI_NETNS=%q: %v", o.Netns, err)}
	}
	if os.Getenv("CNI_NETNS_OVERRIDE") != "" {
		return h, nil
	}
	if isOwn(o.Netns) {
		h.Close()
		return nil, &Error{Code: CodeNetns, Msg: fmt.Sprintf("CNI_NETNS=%q is the namespace that the plugin runs in; want the container's", o.Netns)}
	}
	return h, nil
}

// endpoint is what is known of the endpoint before it has addresses.
func (o op) endpoint() (bowline.EndpointSpec, error) {
	e := bowline.EndpointSpec{ID: o.ID(), IfName: o.IfName, Ports: o.Ports, Rates: o.Rates, Options: o.Own}
	if err := o.supports(e); err != nil {
		return e, err
	}
	if _, lends := o.Driver.(bowline.Lender); lends && o.DeviceID != "" {
		e.Options = maps.Clone(e.Options)
		if e.Options == nil {
			e.Options = map[string]string{}
		}
		e.Options["deviceID"] = o.DeviceID
	}
	if o.MAC == "" {
		return e, nil
	}
	mac, err := net.ParseMAC(o.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 == 1 {
		return e, invalid("network %q: mac=%q: want a unicast Ethernet address such as 02:00:00:00:00:01", o.Config.Name, o.MAC)
	}
	e.MAC = mac
	return e, nil
}

// supports refuses what the driver cannot do.
func (o op) supports(e bowline.EndpointSpec) error {
	if _, can := o.Driver.(bowline.Publisher); len(e.Ports) > 0 && !can {
		return invalid("network %q: runtimeConfig: portMappings: %s publishes no ports", o.Config.Name, o.Config.Type)
	}
	if len(e.Ports) > 0 && o.IPAMType == "" {
		return invalid("network %q: runtimeConfig: portMappings: want a network with ipam, for ports lead to addresses", o.Config.Name)
	}
	if _, can := o.Driver.(bowline.Shaper); e.Rates != (bowline.Rates{}) && !can {
		return invalid("network %q: bandwidth: %s limits no rates", o.Config.Name, o.Config.Type)
	}
	return nil
}

func (o op) network(pools []bowline.Pool) bowline.NetworkConfig {
	return bowline.NetworkConfig{ID: o.Config.Name, Pools: pools, Options: o.Options}
}

func (o op) validate(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if yes, err := strconv.ParseBool(o.Options["dhcp"]); err == nil && yes {
		return invalid(`network %q: option dhcp="true": that is for Docker; want "ipam": {"type": %q}`, o.Config.Name, ownDHCP)
	}
	v, ok := o.Driver.(bowline.Validator)
	if !ok {
		return nil
	}
	if o.IPAMType != "" { // there will be pools, which some options do not go with
		n.Pools = []bowline.Pool{{}}
	}
	return errors.Join(v.ValidateNetwork(n), v.ValidateEndpoint(n, e))
}

// begin returns the record to write. One that is there already means a second
// ADD, which is the engine's fault; unless it is of an attachment that was
// never completed, or whose sandbox is gone, or is a new one that got the old
// one's inode: that is what a kill left, and what it stands for is removed first.
func (o op) begin(ctx context.Context, ipam ipamCaller, sandbox *netns.Handle) (state.Endpoint, error) {
	id, err := sandbox.ID()
	if err != nil {
		return state.Endpoint{}, err
	}
	r := state.Endpoint{
		Driver: o.Face.Name, Face: "cni", Network: o.Config.Name, ID: o.ID(), Container: o.ContainerID, Name: o.name(),
		IfName: o.IfName, Sandbox: o.Netns, NetnsIno: id.Ino, BootID: state.BootID(), Options: o.Options,
		IPAM: ipam.delegate(), Created: time.Now().UTC(),
	}
	old, err := o.endpoints.Get(ctx, r.Driver, r.Network, r.ID)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err == nil && old.Ready && old.BootID == r.BootID && old.NetnsIno == r.NetnsIno && hasLink(ctx, sandbox, r.IfName):
		return r, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: container %s is attached already as %s", r.Network, r.Container, r.IfName))
	case err != nil: // damaged, and set aside: look for what it stood for
		old = r
	}
	defer o.endpoints.Hold(r.Driver, r.Network, r.ID)()
	if err := o.cleanUp(ctx, ipam, old); err != nil {
		return r, err
	}
	return r, o.endpoints.Delete(ctx, r.Driver, r.Network, r.ID)
}

func hasLink(ctx context.Context, sandbox *netns.Handle, name string) bool {
	h, err := openLinks(ctx, sandbox)
	if err != nil {
		return true // not known
	}
	defer h.Close()
	_, err = h.Get(ctx, name)
	return !errors.Is(err, bowline.ErrUnknown)
}

// cleanUp removes what an attachment that did not end well may have left.
func (o op) cleanUp(ctx context.Context, ipam ipamCaller, r state.Endpoint) error {
	n, e := r.Config(), r.Spec()
	if r.Options == nil {
		n.Options = o.Options
	}
	if sandbox := netns.OpenIno(r.Sandbox, r.NetnsIno); sandbox != nil && dryOf(ctx) == nil {
		defer sandbox.Close()
		e.Sandbox = sandbox
	}
	return errors.Join(o.Driver.DeleteEndpoint(ctx, n, e), ipam.release(ctx))
}

// addrsOf parses what a previous result says.
func addrsOf(r *types100.Result) []netip.Prefix {
	var ps []netip.Prefix
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ones, _ := ip.Address.Mask.Size()
			ps = append(ps, netip.PrefixFrom(a.Unmap(), ones))
		}
	}
	return ps
}
