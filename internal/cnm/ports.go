package cnm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// portMappings reads what -p asked for. Ports in a row, which dockerd tells one
// by one, become one mapping.
func portMappings(labels map[string]json.RawMessage) ([]bowline.PortMapping, error) {
	raw, ok := labels[labelPortMap]
	if !ok {
		return nil, nil
	}
	var bindings []portBinding
	if err := json.Unmarshal(raw, &bindings); err != nil {
		return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s=%s: want a list of ports", labelPortMap, raw))
	}
	v4, err := onlyIPv4(labels)
	if err != nil {
		return nil, err
	}
	var ms []bowline.PortMapping
	for i, b := range bindings {
		m, err := b.mapping(fmt.Sprintf("%s[%d]", labelPortMap, i))
		if err != nil {
			return nil, err
		}
		if v4 && m.HostIP.Is6() {
			continue
		}
		if v4 && !m.HostIP.IsValid() {
			m.HostIP = netip.IPv4Unspecified()
		}
		ms = append(ms, m)
	}
	return bowline.JoinPorts(ms), nil
}

// onlyIPv4 reports whether another endpoint of the sandbox publishes to IPv6.
func onlyIPv4(labels map[string]json.RawMessage) (yes bool, err error) {
	if raw, ok := labels[labelOnlyIPv4]; ok {
		if err := json.Unmarshal(raw, &yes); err != nil {
			return false, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s=%s: want true or false", labelOnlyIPv4, raw))
		}
	}
	return yes, nil
}

func (b portBinding) mapping(place string) (bowline.PortMapping, error) {
	m := bowline.PortMapping{Port: b.Port, HostPort: b.HostPort}
	wrong := func(key string, value any, want string) (bowline.PortMapping, error) {
		return m, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: %s=%v: want %s", place, key, value, want))
	}
	switch b.Proto {
	case 6:
		m.Protocol = "tcp"
	case 17:
		m.Protocol = "udp"
	case 132:
		m.Protocol = "sctp"
	default:
		return wrong("Proto", b.Proto, "6 (tcp), 17 (udp) or 132 (sctp)")
	}
	if b.Port == 0 {
		return wrong("Port", b.Port, "1 to 65535")
	}
	if b.HostPortEnd > b.HostPort { // any of them
		m.HostPortEnd = b.HostPortEnd
	}
	if b.HostIP != "" {
		ip, err := netip.ParseAddr(b.HostIP)
		if err != nil || ip.Zone() != "" {
			return wrong("HostIP", b.HostIP, "an address such as 127.0.0.1 or ::1")
		}
		m.HostIP = ip.Unmap()
	}
	return m, nil
}

// publisher returns the driver as one that publishes; silence would leave a
// service unreachable that was asked for.
func (d *NetworkDriver) publisher(ports []bowline.PortMapping) (bowline.Publisher, error) {
	p, ok := d.Driver.(bowline.Publisher)
	if !ok && len(ports) > 0 {
		return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			"bowline-%s publishes no ports, for its containers have an address of their own with all their ports: want the container without -p, or its default route through another network, as -o isDefaultGateway=false leaves it", d.Name))
	}
	return p, nil
}

// programConnectivity comes for the endpoint that the sandbox's default route
// leads through, with the ports to publish there. It may come again, in place
// of the last time.
func (d *NetworkDriver) programConnectivity(ctx context.Context, r connectivityRequest) (empty, error) {
	ports, err := portMappings(r.Options)
	if err != nil {
		return empty{}, err
	}
	p, err := d.publisher(ports)
	if err != nil || p == nil {
		return empty{}, err
	}
	err = d.program(ctx, p, r, ports)
	if errors.Is(err, bowline.ErrConflict) {
		// Perhaps it is the container itself that has the port, from before
		// dockerd was killed.
		d.sweep(ctx)
		err = d.program(ctx, p, r, ports)
	}
	return empty{}, err
}

// program publishes the ports instead of what was published for the endpoint.
func (d *NetworkDriver) program(ctx context.Context, p bowline.Publisher, r connectivityRequest, ports []bowline.PortMapping) error {
	unlock, err := d.locks.lock(ctx, r.NetworkID)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := d.networks.Get(ctx, r.NetworkID)
	if err != nil {
		return err
	}
	rec, err := d.endpoints.Get(ctx, d.Name, n.ID, r.EndpointID)
	if errors.Is(err, fs.ErrNotExist) {
		return unknownEndpoint(n.ID, r.EndpointID)
	}
	if err != nil {
		return err
	}
	switch {
	case len(ports) > 0:
		return d.publish(ctx, p, n, rec, ports)
	case len(rec.Ports) > 0:
		return d.unpublish(ctx, p, n, rec)
	}
	return nil
}

// publish has the driver publish ports in place of those of the record, which
// holds first what is asked for and then what was chosen.
func (d *NetworkDriver) publish(ctx context.Context, p bowline.Publisher, n Network, rec state.Endpoint, ports []bowline.PortMapping) error {
	before := rec.Ports
	rec.Ports = ports
	if err := d.endpoints.Put(ctx, rec); err != nil {
		return err
	}
	chosen, err := p.Publish(ctx, n.Config(), rec.Spec())
	if err != nil { // what was published before still is
		rec.Ports = before
		return errors.Join(err, d.endpoints.Put(context.WithoutCancel(ctx), rec))
	}
	if slices.Equal(chosen, ports) {
		return nil
	}
	rec.Ports = chosen
	if err := d.endpoints.Put(ctx, rec); err != nil {
		return errors.Join(err, p.Unpublish(context.WithoutCancel(ctx), n.Config(), rec.Spec()))
	}
	return nil
}

// unpublish ends what is published, and erases it from the record then.
func (d *NetworkDriver) unpublish(ctx context.Context, p bowline.Publisher, n Network, rec state.Endpoint) error {
	if err := p.Unpublish(ctx, n.Config(), rec.Spec()); err != nil {
		return err
	}
	rec.Ports = nil
	return d.endpoints.Put(ctx, rec)
}

// revokeConnectivity comes when the endpoint is no gateway any more; before
// Leave too, unless dockerd was killed meanwhile.
func (d *NetworkDriver) revokeConnectivity(ctx context.Context, r endpointRequest) (empty, error) {
	ctx = context.WithoutCancel(ctx)
	p, ok := d.Driver.(bowline.Publisher)
	if !ok {
		return empty{}, nil
	}
	unlock, err := d.locks.lock(ctx, r.NetworkID)
	if err != nil {
		return empty{}, err
	}
	defer unlock()
	rec, err := d.endpoints.Get(ctx, d.Name, r.NetworkID, r.EndpointID)
	if err != nil || len(rec.Ports) == 0 { // gone already: DeleteEndpoint needs no record
		return empty{}, nil
	}
	return empty{}, d.unpublish(ctx, p, d.network(ctx, r.NetworkID, rec), rec)
}

// network returns the record of the endpoint's network, or what the endpoint's
// own says of it.
func (d *NetworkDriver) network(ctx context.Context, id string, rec state.Endpoint) Network {
	n, err := d.networks.Get(ctx, id)
	if err != nil {
		return Network{Driver: d.Name, ID: id, Pools: rec.Pools, Options: rec.Options}
	}
	return n
}

// republish brings back what is published for the endpoints that live: somebody
// may have flushed the rules while the plugin was away, or it was killed when
// they were about to be made.
func (d *NetworkDriver) republish(ctx context.Context) {
	p, ok := d.Driver.(bowline.Publisher)
	if !ok {
		return
	}
	all, _ := d.endpoints.All(ctx) // sweep has told of those that cannot be read
	for _, e := range all {
		if e.Driver != d.Name || e.Face != face || len(e.Ports) == 0 {
			continue
		}
		if err := d.republishEndpoint(ctx, p, e.Network, e.ID); err != nil {
			d.log.Warn("ports not published again", "network", e.Network, "endpoint", e.ID, "error", err)
		}
	}
}

func (d *NetworkDriver) republishEndpoint(ctx context.Context, p bowline.Publisher, network, id string) error {
	unlock, err := d.locks.lock(ctx, network)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := d.endpoints.Get(ctx, d.Name, network, id)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(rec.Ports) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return d.publish(ctx, p, d.network(ctx, network, rec), rec, rec.Ports)
}

func unknownEndpoint(network, id string) error {
	return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %.12s: endpoint %.12s does not exist", network, id))
}
