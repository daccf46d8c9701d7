package cnm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/internal/state"
)

// A NetworkDriver lets Docker use a [bowline.Driver]. Fill the exported fields,
// then hand it to [Serve]; they must not change afterwards.
type NetworkDriver struct {
	Driver bowline.Driver // required
	Name   string         // of the driver in records, "bridge"; required

	// Defaults returns options that hold where the user gave none for the key.
	// nil: [GatewayDefaults].
	Defaults func(bowline.NetworkConfig) map[string]string

	// Validate says what is wrong with a network of Docker's that the driver would
	// take. nil: nothing.
	Validate func(bowline.NetworkConfig) error

	// EndpointKeys are the option keys of the driver's endpoints.
	EndpointKeys []string

	// LinkExists tells whether the host has a link of that name. nil: asks the
	// namespace of the process, which must be that of dockerd.
	LinkExists func(name string) (bool, error)

	// Watched tells whether somebody sees each change of the host and repairs
	// networks: then endpoints need not make sure of theirs. nil: nobody does.
	Watched func() bool

	log         *slog.Logger
	networks    Networks
	endpoints   state.Endpoints
	locks       locks // per network
	mu          sync.Mutex
	attachments map[string]bowline.Attachment // by endpoint ID: what Join will answer
	left        map[string]state.Endpoint     // by endpoint ID: as it was until Leave
	unjoined    map[string]time.Time          // by network/endpoint: since when we know it
}

// register opens the records and puts the methods on m.
func (d *NetworkDriver) register(m *socket.Mux, log *slog.Logger) {
	d.log, d.networks, d.endpoints = log, OpenNetworks(d.Name), state.OpenEndpoints()
	d.locks.also = d.keepOut
	d.attachments, d.unjoined = map[string]bowline.Attachment{}, map[string]time.Time{}
	d.left = map[string]state.Endpoint{}
	if d.Defaults == nil {
		d.Defaults = GatewayDefaults
	}
	if d.LinkExists == nil {
		d.LinkExists = linkExists
	}
	const i = "NetworkDriver"
	m.Implements(i)
	socket.HandleEmpty(m, i+".GetCapabilities", d.capabilities)
	socket.Handle(m, i+".GwAllocCheck", d.gwAllocCheck)
	socket.Handle(m, i+".CreateNetwork", d.createNetwork)
	socket.Handle(m, i+".DeleteNetwork", d.deleteNetwork)
	socket.Handle(m, i+".CreateEndpoint", d.createEndpoint)
	socket.Handle(m, i+".DeleteEndpoint", d.deleteEndpoint)
	socket.Handle(m, i+".EndpointOperInfo", d.operInfo)
	socket.Handle(m, i+".Join", d.join)
	socket.Handle(m, i+".Leave", d.leave)
	socket.Handle(m, i+".ProgramExternalConnectivity", d.programConnectivity)
	socket.Handle(m, i+".RevokeExternalConnectivity", d.revokeConnectivity)
	socket.Handle(m, i+".DiscoverNew", d.nothing)
	socket.Handle(m, i+".DiscoverDelete", d.nothing)
}

// keepOut keeps commands from changing records, and repairs from the network.
func (d *NetworkDriver) keepOut(network string) (unlock func(), err error) {
	release := d.endpoints.Hold(d.Name, network, "")
	serving, err := d.endpoints.Serving(d.Name)
	if err != nil {
		release()
		return nil, err
	}
	return func() { serving(); release() }, nil
}

func linkExists(name string) (bool, error) {
	// By number of the whole list: InterfaceByName tells a missing link only by
	// the text of its error.
	links, err := net.Interfaces()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if l.Name == name {
			return true, nil
		}
	}
	return false, nil
}

func (d *NetworkDriver) capabilities(context.Context) (capabilities, error) {
	return capabilities{Scope: "local", GwAllocChecker: true}, nil
}

// nothing answers what needs no doing: hosts do not know of each other.
func (d *NetworkDriver) nothing(context.Context, empty) (empty, error) { return empty{}, nil }

// gwAllocCheck says that a network without a gateway needs no address for one.
func (d *NetworkDriver) gwAllocCheck(_ context.Context, r gwAllocCheckRequest) (gwAllocCheckResponse, error) {
	options, _, err := networkOptions(r.Options)
	if err != nil {
		return gwAllocCheckResponse{}, err
	}
	yes, err := strconv.ParseBool(options["isGateway"])
	skip := err == nil && !yes // CreateNetwork will tell a wrong value
	const isolated = "isolated"
	return gwAllocCheckResponse{
		SkipIPv4: skip || options["gatewayMode4"] == isolated,
		SkipIPv6: skip || options["gatewayMode6"] == isolated,
	}, nil
}

// asked returns the record that a CreateNetwork asks for.
func (d *NetworkDriver) asked(r createNetworkRequest) (Network, error) {
	n := Network{Driver: d.Name, ID: r.NetworkID, Created: time.Now().UTC()}
	if n.ID == "" {
		return n, bowline.Wrong(bowline.ErrInvalid, `NetworkID="": want the network's ID`)
	}
	var err error
	if n.Options, n.Prefix, err = networkOptions(r.Options); err != nil {
		return n, err
	}
	if n.Pools, err = pools(append(r.IPv4Data, r.IPv6Data...)...); err != nil {
		return n, err
	}
	if err := checkLeased(n); err != nil {
		return n, err
	}
	options := d.Defaults(n.Config())
	if options == nil {
		options = map[string]string{}
	}
	maps.Copy(options, n.Options)
	n.Options = options
	if v, ok := d.Driver.(bowline.Validator); ok {
		if err := v.ValidateNetwork(n.Config()); err != nil {
			return n, err
		}
	}
	if d.Validate != nil {
		return n, d.Validate(n.Config())
	}
	return n, nil
}

func (d *NetworkDriver) createNetwork(ctx context.Context, r createNetworkRequest) (empty, error) {
	n, err := d.asked(r)
	if err != nil {
		return empty{}, err
	}
	unlock, err := d.locks.lock(ctx, n.ID)
	if err != nil {
		return empty{}, err
	}
	defer unlock()
	switch old, err := d.networks.Get(ctx, n.ID); {
	case err == nil && old.Ready && !old.same(n):
		return empty{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %.12s: there already with other pools or options", n.ID))
	case err == nil && old.Ready:
		return empty{}, d.Driver.CreateNetwork(ctx, n.Config())
	case err != nil && !errors.Is(err, bowline.ErrUnknown):
		d.log.WarnContext(ctx, "network record unreadable, written anew", "error", err)
	}
	if err := d.networks.put(ctx, n); err != nil {
		return empty{}, err
	}
	if err := d.Driver.CreateNetwork(ctx, n.Config()); err != nil {
		return empty{}, errors.Join(err, d.networks.delete(context.WithoutCancel(ctx), n.ID))
	}
	n.Ready = true
	if err := d.networks.put(ctx, n); err != nil {
		return empty{}, errors.Join(err, d.removeNetwork(context.WithoutCancel(ctx), n))
	}
	return empty{}, nil
}

func (d *NetworkDriver) deleteNetwork(ctx context.Context, r networkRequest) (empty, error) {
	// Going on when dockerd has hung up: what is half removed helps nobody.
	ctx = context.WithoutCancel(ctx)
	unlock, err := d.locks.lock(ctx, r.NetworkID)
	if err != nil {
		return empty{}, err
	}
	defer unlock()
	n, err := d.networks.Get(ctx, r.NetworkID)
	if err != nil {
		n = Network{Driver: d.Name, ID: r.NetworkID}
		if !errors.Is(err, bowline.ErrUnknown) {
			d.log.WarnContext(ctx, "network record unreadable, removing by ID alone", "error", err)
		}
	}
	// dockerd asks when no container is on the network. Endpoints that it never
	// told us to delete, for it was killed, must not keep the network.
	known, err := d.endpoints.OfNetwork(ctx, d.Name, n.ID)
	if err != nil {
		d.log.WarnContext(ctx, "endpoint records unreadable", "error", err)
	}
	for _, e := range known {
		if e.Face != face {
			continue
		}
		if err := d.removeEndpoint(ctx, n, e); err != nil {
			return empty{}, err
		}
	}
	return empty{}, d.removeNetwork(ctx, n)
}

// removeNetwork undoes what createNetwork did, the record last.
func (d *NetworkDriver) removeNetwork(ctx context.Context, n Network) error {
	d.unleaseAll(ctx, n)
	if err := d.Driver.DeleteNetwork(ctx, n.Config()); err != nil {
		return err
	}
	return d.networks.delete(ctx, n.ID)
}
