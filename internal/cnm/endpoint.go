package cnm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/undo"
)

// face is what the records of Docker's endpoints have as their face.
const face = "cnm"

// spec returns the endpoint that a CreateEndpoint asks for.
func (d *NetworkDriver) spec(r createEndpointRequest) (bowline.EndpointSpec, error) {
	e := bowline.EndpointSpec{ID: r.EndpointID}
	if e.ID == "" {
		return e, bowline.Wrong(bowline.ErrInvalid, `EndpointID="": want the endpoint's ID`)
	}
	// Only looked at: ProgramExternalConnectivity publishes them. Not in Join,
	// which has them for every network, whichever publishes them.
	if _, err := portMappings(r.Options); err != nil {
		return e, err
	}
	if r.Interface != nil {
		for _, a := range []string{r.Interface.Address, r.Interface.AddressIPv6} {
			if a == "" {
				continue
			}
			p, err := netip.ParsePrefix(a)
			if err != nil {
				return e, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("endpoint %.12s: address %q: want an address and prefix length", e.ID, a))
			}
			e.Addrs = append(e.Addrs, p)
		}
		if m := r.Interface.MacAddress; m != "" {
			mac, err := net.ParseMAC(m)
			if err != nil || len(mac) != 6 {
				return e, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("endpoint %.12s: MacAddress=%q: want six octets", e.ID, m))
			}
			e.MAC = mac
		}
	}
	var err error
	if e.Options, err = endpointOptions(r.Options, d.EndpointKeys); err != nil {
		return e, err
	}
	_, lent := d.Driver.(bowline.Lender) // whose link has a MAC of its own
	if e.MAC == nil && e.Options["mac"] == "" && len(e.Addrs) > 0 && !lent {
		// A container that restarts is a new endpoint with its old address.
		// The same MAC again keeps its neighbours' caches right: dockerd
		// before 28 does not announce a new one.
		e.MAC = bowline.MAC(r.NetworkID, e.Addrs[0].Addr().String())
	}
	return e, nil
}

func (d *NetworkDriver) createEndpoint(ctx context.Context, r createEndpointRequest) (createEndpointResponse, error) {
	answer, err := d.tryCreateEndpoint(ctx, r)
	if _, lends := d.Driver.(bowline.Lender); lends && errors.Is(err, bowline.ErrConflict) {
		// Perhaps it is a container that has the link from before dockerd was killed.
		d.sweep(ctx)
		answer, err = d.tryCreateEndpoint(ctx, r)
	}
	return answer, err
}

func (d *NetworkDriver) tryCreateEndpoint(ctx context.Context, r createEndpointRequest) (createEndpointResponse, error) {
	var none createEndpointResponse
	e, err := d.spec(r)
	if err != nil {
		return none, err
	}
	unlock, err := d.locks.lock(ctx, r.NetworkID)
	if err != nil {
		return none, err
	}
	defer unlock()
	n, err := d.networks.Get(ctx, r.NetworkID)
	if err != nil {
		return none, err
	}
	if e.Rates, err = rates(n, e); err != nil {
		return none, err
	}
	if e.Policy, err = d.policy(ctx, n, e); err != nil {
		return none, err
	}
	if v, ok := d.Driver.(bowline.Validator); ok {
		if err := v.ValidateEndpoint(n.Config(), e); err != nil {
			return none, err
		}
	}
	if _, err := d.endpoints.Get(ctx, d.Name, n.ID, e.ID); err == nil { // repeated
		att, err := d.attach(ctx, n, e)
		return answer(r.Interface, att), err
	}
	var u undo.Stack // no DeleteEndpoint follows a CreateEndpoint that failed
	defer u.Rollback(ctx)
	rec := d.record(n, e)
	if err := d.endpoints.Put(ctx, rec); err != nil {
		return none, err
	}
	u.Push("delete endpoint "+e.ID, func(ctx context.Context) error { return d.removeEndpoint(ctx, n, rec) })
	var att bowline.Attachment
	if leased(n.Options) {
		att, err = d.attachLeased(ctx, n, e, mark(r))
	} else if att, err = d.attach(ctx, n, e); err == nil {
		err = d.probe(ctx, n, att)
	}
	if err != nil {
		return none, err
	}
	rec.MAC, rec.Addrs, rec.Ready = att.MAC.String(), att.Addrs, true
	if len(att.Host) > 0 {
		rec.Link = att.Host[len(att.Host)-1].Name
	}
	if err := d.endpoints.Put(ctx, rec); err != nil {
		return none, err
	}
	u.Commit()
	return answer(r.Interface, att), nil
}

// attach has the driver make e, and n before it: after a reboot, or when
// somebody removed the bridge, all that is left of n is its record. Where
// networks are watched n is made if it is gone; what else may be wrong with it is
// made right by who watches, and be it because of the event that e is.
func (d *NetworkDriver) attach(ctx context.Context, n Network, e bowline.EndpointSpec) (att bowline.Attachment, err error) {
	made := d.Watched != nil && d.Watched()
	if made {
		att, err = d.Driver.CreateEndpoint(ctx, n.Config(), e)
		made = !errors.Is(err, bowline.ErrUnknown)
	}
	if !made {
		if err = d.Driver.CreateNetwork(ctx, n.Config()); err == nil {
			att, err = d.Driver.CreateEndpoint(ctx, n.Config(), e)
		}
	}
	if err != nil {
		return bowline.Attachment{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attachments[e.ID] = att
	return att, nil
}

func (d *NetworkDriver) record(n Network, e bowline.EndpointSpec) state.Endpoint {
	r := state.Endpoint{
		Driver: d.Name, Face: face, Network: n.ID, ID: e.ID, BootID: state.BootID(),
		Pools: n.Pools, Options: n.Options, Created: time.Now().UTC(),
	}
	r.SetSpec(e)
	return r
}

// answer fills in what asked left empty, and nothing else.
func answer(asked *endpointInterface, att bowline.Attachment) createEndpointResponse {
	var given endpointInterface
	if asked != nil {
		given = *asked
	}
	var r createEndpointResponse
	if given.MacAddress == "" {
		r.Interface.MacAddress = att.MAC.String()
	}
	for _, a := range att.Addrs {
		if a.Addr().Is4() && given.Address == "" {
			r.Interface.Address = a.String()
		}
		if a.Addr().Is6() && given.AddressIPv6 == "" {
			r.Interface.AddressIPv6 = a.String()
		}
	}
	return r
}

func (d *NetworkDriver) join(ctx context.Context, r joinRequest) (joinResponse, error) {
	var none joinResponse
	unlock, err := d.locks.lock(ctx, r.NetworkID)
	if err != nil {
		return none, err
	}
	defer unlock()
	n, err := d.networks.Get(ctx, r.NetworkID)
	if err != nil {
		return none, err
	}
	rec, err := d.endpoints.Get(ctx, d.Name, n.ID, r.EndpointID)
	if errors.Is(err, fs.ErrNotExist) {
		return none, unknownEndpoint(n.ID, r.EndpointID)
	}
	if err != nil {
		return none, err
	}
	d.mu.Lock()
	att, known := d.attachments[rec.ID]
	d.mu.Unlock()
	if !known { // made by a process before this one
		if att, err = d.attach(ctx, n, rec.Spec()); err != nil {
			return none, err
		}
	}
	if leased(n.Options) {
		if att, err = joinLeased(ctx, r, att); err != nil {
			return none, err
		}
	}
	rec.Sandbox = r.SandboxKey
	if id, ok := netns.Stat(r.SandboxKey); ok {
		rec.NetnsIno = id.Ino
	}
	if err := d.endpoints.Put(ctx, rec); err != nil {
		return none, err
	}
	d.settleSoon(n, rec.ID, rec.Sandbox, att)
	return joined(n, att), nil
}

// joined says how dockerd is to dress the link. Without a gateway it must also
// be told that this is meant, or it connects the sandbox to docker_gwbridge.
func joined(n Network, att bowline.Attachment) joinResponse {
	j := joinResponse{DisableGatewayService: len(att.Gateways) == 0}
	if att.Link != "" {
		j.InterfaceName = &interfaceName{SrcName: att.Link, DstPrefix: n.Prefix}
	}
	for _, gw := range att.Gateways {
		if gw.Is4() {
			j.Gateway = gw.String()
		} else {
			j.GatewayIPv6 = gw.String()
		}
	}
	for _, route := range att.Routes {
		s := staticRoute{Destination: route.Dst.String(), RouteType: onLink}
		if route.Via.IsValid() {
			s.RouteType, s.NextHop = viaNextHop, route.Via.String()
		}
		j.StaticRoutes = append(j.StaticRoutes, s)
	}
	return j
}

// leave forgets the sandbox, and ends what is published for it: no
// RevokeExternalConnectivity comes first if dockerd was killed, or restarted
// under containers that live on. dockerd itself moves the link out.
func (d *NetworkDriver) leave(ctx context.Context, r endpointRequest) (empty, error) {
	ctx = context.WithoutCancel(ctx)
	unlock, err := d.locks.lock(ctx, r.NetworkID)
	if err != nil {
		return empty{}, err
	}
	defer unlock()
	rec, err := d.endpoints.Get(ctx, d.Name, r.NetworkID, r.EndpointID)
	if err != nil { // gone already: DeleteEndpoint needs no record
		return empty{}, nil
	}
	d.mu.Lock()
	d.left[rec.ID] = rec
	d.mu.Unlock()
	rec.Sandbox, rec.NetnsIno = "", 0
	if p, ok := d.Driver.(bowline.Publisher); ok && len(rec.Ports) > 0 {
		return empty{}, d.unpublish(ctx, p, d.network(ctx, r.NetworkID, rec), rec)
	}
	return empty{}, d.endpoints.Put(ctx, rec)
}

func (d *NetworkDriver) deleteEndpoint(ctx context.Context, r endpointRequest) (empty, error) {
	ctx = context.WithoutCancel(ctx)
	unlock, err := d.locks.lock(ctx, r.NetworkID)
	if err != nil {
		return empty{}, err
	}
	defer unlock()
	rec, err := d.endpoints.Get(ctx, d.Name, r.NetworkID, r.EndpointID)
	if err != nil {
		rec = state.Endpoint{Driver: d.Name, Network: r.NetworkID, ID: r.EndpointID}
		if !errors.Is(err, fs.ErrNotExist) {
			d.log.WarnContext(ctx, "endpoint record unreadable, removing by ID alone", "error", err)
		}
		if p, ok := d.Driver.(bowline.Publisher); ok { // the record would have said whether there is something
			if err := p.Unpublish(ctx, d.network(ctx, r.NetworkID, rec).Config(), rec.Spec()); err != nil {
				return empty{}, err
			}
		}
	}
	return empty{}, d.removeEndpoint(ctx, d.network(ctx, r.NetworkID, rec), rec)
}

// removeEndpoint undoes what createEndpoint did, the record last.
func (d *NetworkDriver) removeEndpoint(ctx context.Context, n Network, rec state.Endpoint) error {
	d.unlease(ctx, n, rec)
	if err := errors.Join(d.unsettle(ctx, n, rec), d.Driver.DeleteEndpoint(ctx, n.Config(), rec.Spec())); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.attachments, rec.ID)
	delete(d.left, rec.ID)
	d.mu.Unlock()
	return d.endpoints.Delete(ctx, d.Name, rec.Network, rec.ID)
}

// operInfo is shown by nothing that people look at, but dockerd 29 asks for it
// when it restores containers, so an unknown endpoint is no error.
func (d *NetworkDriver) operInfo(ctx context.Context, r endpointRequest) (operInfoResponse, error) {
	value := map[string]string{}
	if rec, err := d.endpoints.Get(ctx, d.Name, r.NetworkID, r.EndpointID); err == nil {
		value["bowline.link"], value["bowline.mac"] = rec.Link, rec.MAC
	}
	return operInfoResponse{Value: value}, nil
}
