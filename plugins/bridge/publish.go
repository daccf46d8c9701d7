package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/undo"
)

// Publish implements [bowline.Publisher].
func (d *driver) Publish(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) ([]bowline.PortMapping, error) {
	o, err := parseOptions(n)
	if err != nil {
		return nil, err
	}
	outer, err := d.host.Get(ctx, outerName(n, e.ID))
	if err != nil {
		return nil, err
	}
	if len(e.Ports) == 0 {
		return nil, d.Unpublish(ctx, n, bowline.EndpointSpec{ID: e.ID})
	}
	rn := ruleNetwork(n, o)
	before, err := d.rules.Ports(ctx, rn, nft.Endpoint{ID: e.ID, Port: outer.Name})
	if err != nil {
		return nil, err
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	ms, ports, err := d.publish(ctx, n, o, e, func(rn nft.Network, re nft.Endpoint) error { return d.rules.ReplacePorts(ctx, rn, re) })
	if err != nil {
		return nil, err
	}
	u.Push("restore ports of "+e.ID, func(ctx context.Context) error {
		old := e
		old.Ports = recalled(before)
		return d.rules.ReplacePorts(ctx, rn, ruleEndpoint(n, o, old, nil))
	})
	if hairpin, err := d.needsHairpin(ctx, o, ports); err != nil {
		return nil, err
	} else if hairpin {
		if err := d.host.Set(ctx, outer.Name, link.Change{Port: o.port(true)}); err != nil {
			return nil, err
		}
		u.Push("reset port "+outer.Name, func(ctx context.Context) error {
			return d.host.Set(ctx, outer.Name, link.Change{Port: o.port(len(before) > 0)})
		})
	}
	if err := d.settle(ctx, rn, ports); err != nil {
		return nil, err
	}
	gone := slices.DeleteFunc(before, func(p nft.Port) bool { return slices.Contains(ports, p) })
	if err := d.forget(ctx, gone); err != nil {
		return nil, err
	}
	u.Commit()
	return ms, nil
}

// Unpublish implements [bowline.Publisher].
func (d *driver) Unpublish(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	o, err := parseOptions(n)
	if err != nil || o.firewall == "none" {
		return err
	}
	rn, re := ruleNetwork(n, o), ruleEndpoint(n, o, e, nil)
	if re.Unsure {
		if re.Ports, err = d.rules.Ports(ctx, rn, re); err != nil || len(re.Ports) == 0 {
			return err
		}
	}
	if err := d.rules.DeletePorts(ctx, rn, re); err != nil {
		return err
	}
	err = d.host.Set(ctx, re.Port, link.Change{Port: o.port(false)})
	if errors.Is(err, bowline.ErrUnknown) { // the container is gone
		err = nil
	}
	return errors.Join(err, d.forget(ctx, re.Ports))
}

// publish has ensure tell the firewall of the endpoint and its ports, once host
// ports that are free have been chosen. It returns the mappings with them, as
// they were asked for if there was none to choose.
func (d *driver) publish(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec, ensure func(nft.Network, nft.Endpoint) error) ([]bowline.PortMapping, []nft.Port, error) {
	leads, err := o.planPorts(n, e)
	if err != nil {
		return nil, nil, err
	}
	rn, place := ruleNetwork(n, o), fmt.Sprintf("network %q, endpoint %q: ", n.ID, e.ID)
	c, err := d.newChooser(ctx, rn, nft.Endpoint{ID: e.ID, Port: outerName(n, e.ID)}, leads)
	if err != nil {
		return nil, nil, err
	}
	for try := 0; ; try++ {
		now, err := c.choose(ctx, leads)
		if err != nil {
			return nil, nil, bowline.Wrong(err, place+err.Error())
		}
		if !known(leads) {
			e.Ports = mappings(now)
		}
		re := ruleEndpoint(n, o, e, o.checkedMAC(n, e))
		err = ensure(rn, re)
		var taken *nft.TakenError
		if !errors.As(err, &taken) {
			return e.Ports, re.Ports, err
		}
		if left, err := d.endDead(ctx, taken); err != nil {
			return nil, nil, err
		} else if left && try < 100 {
			continue
		}
		if !chose(leads, now, taken.Port) || try == 100 {
			return nil, nil, bowline.Wrong(taken, place+taken.Error())
		}
		if c.held, err = d.rules.Held(ctx, re); err != nil {
			return nil, nil, err
		}
	}
}

// endDead ends the ports of a holder whose container died without a DEL: its
// veth died with the container's namespace, and a link is there before the
// firewall knows of its ports and until it does no more. It reports whether the
// holder was one.
func (d *driver) endDead(ctx context.Context, taken *nft.TakenError) (bool, error) {
	_, err := d.host.Get(ctx, taken.Link)
	if !errors.Is(err, bowline.ErrUnknown) {
		return false, err
	}
	return true, d.rules.DeleteHolder(ctx, taken)
}

// settle does what must come after the firewall knows the ports: let the host's
// loopback in, which the firewall guards by then, and make the kernel forget
// flows that go on to where the ports led before.
func (d *driver) settle(ctx context.Context, rn nft.Network, ports []nft.Port) error {
	if opensLoopback(rn, ports) {
		if _, err := d.host.SetSysctl(ctx, loopbackKey(rn.Bridge), "1"); err != nil {
			return err
		}
	}
	return d.host.ForgetStale(ctx, flows(ports))
}

// forget makes the kernel forget the flows that the ports led to an endpoint.
func (d *driver) forget(ctx context.Context, ports []nft.Port) error {
	return d.host.ForgetLed(ctx, flows(ports))
}

// flows are those of UDP, whose end nobody tells the kernel.
func flows(ports []nft.Port) (fs []link.Flows) {
	for _, p := range ports {
		if p.Protocol == unix.IPPROTO_UDP {
			fs = append(fs, link.Flows{First: p.First, Count: p.Count, To: p.Host, Endpoint: p.To})
		}
	}
	return fs
}

// needsHairpin reports whether the container's port must send back what comes
// from it: where bridged packets pass the IP firewall they are translated on
// the bridge, and what a container sends to its own published port never
// leaves it. Else the host routes it, and the port should not: the container
// would hear its own broadcasts.
func (d *driver) needsHairpin(ctx context.Context, o options, ports []nft.Port) (bool, error) {
	if o.hairpin || !o.snat && !o.masqAll {
		return false, nil
	}
	for _, v := range []struct {
		key string
		v6  bool
	}{{"net/bridge/bridge-nf-call-iptables", false}, {"net/bridge/bridge-nf-call-ip6tables", true}} {
		if !slices.ContainsFunc(ports, func(p nft.Port) bool { return p.Host.Is6() == v.v6 }) {
			continue
		}
		value, err := d.host.Sysctl(ctx, v.key)
		switch {
		case errors.Is(err, bowline.ErrNoKernel): // no bridge netfilter
		case err != nil:
			return false, err
		case value != "0":
			return true, nil
		}
	}
	return false, nil
}

// port is what the kernel is told of a container's port.
func (o options) port(hairpin bool) *link.Port {
	return &link.Port{Hairpin: o.hairpin || hairpin, Isolated: o.portIsolation || !o.icc}
}

// recalled are mappings that take these ports.
func recalled(ports []nft.Port) (ms []bowline.PortMapping) {
	names := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}
	for _, p := range ports {
		ms = append(ms, bowline.PortMapping{HostIP: p.Host, HostPort: p.First, Port: p.To.Port(), Count: uint16(p.Count), Protocol: names[p.Protocol]})
	}
	return ms
}

// createRules tells the firewall of a new endpoint, and returns its ports.
func (d *driver) createRules(ctx context.Context, n bowline.NetworkConfig, o options, br link.Info, e bowline.EndpointSpec, mac net.HardwareAddr) ([]bowline.PortMapping, error) {
	if len(e.Ports) == 0 {
		return nil, d.endpointRules(ctx, n, br, ruleNetwork(n, o), ruleEndpoint(n, o, e, mac))
	}
	ms, ports, err := d.publish(ctx, n, o, e, func(rn nft.Network, re nft.Endpoint) error { return d.endpointRules(ctx, n, br, rn, re) })
	if err != nil {
		return nil, err
	}
	return ms, d.settle(ctx, ruleNetwork(n, o), ports)
}

// endRules removes what the firewall knows of the endpoint, and what the kernel
// remembers of its ports.
func (d *driver) endRules(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) error {
	mac, err := endpoint.MAC(n, e)
	rn, re := ruleNetwork(n, o), ruleEndpoint(n, o, e, mac)
	errs := []error{err}
	ports := re.Ports
	if re.Unsure {
		ports, err = d.rules.Ports(ctx, rn, re)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, d.rules.DeleteEndpoint(ctx, rn, re), d.forget(ctx, ports))...)
}

// portOf is what the kernel is to be told of the endpoint's port.
func (d *driver) portOf(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) (*link.Port, error) {
	if len(e.Ports) == 0 {
		return o.port(false), nil
	}
	leads, err := o.planPorts(n, e)
	if err != nil {
		return nil, err
	}
	hairpin, err := d.needsHairpin(ctx, o, taken(leads))
	return o.port(hairpin), err
}

func loopbackKey(link string) string { return "net/ipv4/conf/" + link + "/route_localnet" }

// closeLoopback takes back from a link that stays that the host's loopback gets
// out by it, before the rules go that guard it.
func (d *driver) closeLoopback(ctx context.Context, name string) error {
	opened, err := d.rules.LetsLoopback(ctx, name)
	if err != nil || !opened {
		return err
	}
	_, err = d.host.SetSysctl(ctx, loopbackKey(name), "0")
	if errors.Is(err, bowline.ErrNoKernel) { // the link is gone
		return nil
	}
	return err
}

// diffLoopback compares whether the host's loopback gets to the endpoint.
func (s *survey) diffLoopback(ctx context.Context, ds *endpoint.Differences, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) error {
	rn := ruleNetwork(n, o)
	ports, _ := o.ports(n, e)
	if !opensLoopback(rn, ports) {
		return nil
	}
	have, err := s.d.host.Sysctl(ctx, loopbackKey(rn.Bridge))
	if errors.Is(err, bowline.ErrNoKernel) { // the link is gone, which others tell
		return nil
	}
	if err == nil && have != "1" {
		*ds = append(*ds, bowline.Difference{Place: "host", Key: "sysctl " + loopbackKey(rn.Bridge), Have: have, Want: "1"})
	}
	return err
}

// opensLoopback reports whether the host's loopback is to get out to the ports.
func opensLoopback(rn nft.Network, ports []nft.Port) bool {
	return (rn.Publishing.SNAT || rn.Publishing.MasqAll) && slices.ContainsFunc(ports, func(p nft.Port) bool { return p.Host.Is4() })
}
