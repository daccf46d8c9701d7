package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
)

// An Endpoint is the record of one attachment: who is attached where. Faces
// write it before they act and erase it after they have undone.
type Endpoint struct {
	Driver    string         `json:"driver"`            // "bridge"
	Face      string         `json:"face"`              // "cni" or "cnm"
	Network   string         `json:"network"`           // NetworkConfig.ID
	ID        string         `json:"id"`                // EndpointSpec.ID
	Container string         `json:"container"`         // CNI_CONTAINERID, or empty for Docker
	Name      string         `json:"name,omitempty"`    // what people call the container, if the engine told
	IfName    string         `json:"ifname,omitempty"`  // link inside the sandbox
	Sandbox   string         `json:"sandbox,omitempty"` // path of its namespace
	NetnsIno  uint64         `json:"netnsIno,omitempty"`
	BootID    string         `json:"bootID"`
	Link      string         `json:"link,omitempty"` // host end
	MAC       string         `json:"mac,omitempty"`
	Addrs     []netip.Prefix `json:"addrs,omitempty"`
	// Pools are those of the network that the addresses are from.
	Pools []bowline.Pool `json:"pools,omitempty"`
	// Routes are those that IPAM gave, beside those of the driver.
	Routes []bowline.Route `json:"routes,omitempty"`
	// Ports are what is published: as asked for until the record is Ready, then
	// with the host ports that were chosen.
	Ports  []bowline.PortMapping `json:"ports,omitempty"`
	Rates  bowline.Rates         `json:"rates,omitzero"`
	Policy []bowline.PolicyRule  `json:"policy,omitempty"`
	// Sysctls are the settings of the sandbox that were changed for it.
	Sysctls []Sysctl `json:"sysctls,omitempty"`
	// Options are those of the network, so that gc can call the driver
	// without the engine's configuration.
	Options map[string]string `json:"options,omitempty"`
	// EndpointOptions are those of the endpoint.
	EndpointOptions map[string]string `json:"endpointOptions,omitempty"`
	// IPAM is the type of the IPAM plugin, ours too; empty: none, or Docker's.
	IPAM    string    `json:"ipam,omitempty"`
	Created time.Time `json:"created"`
	// Ready is set when the attachment was completed. It is in the record's
	// name, not in its body, so that completing is a rename.
	Ready bool `json:"-"`
}

// A Sysctl is a setting of a sandbox that was changed.
type Sysctl struct {
	Key string `json:"key"` // below /proc/sys
	Was string `json:"was"`
	Is  string `json:"is"`
}

// Config returns the network as its driver saw it.
func (r Endpoint) Config() bowline.NetworkConfig {
	return bowline.NetworkConfig{ID: r.Network, Pools: r.Pools, Options: r.Options}
}

// Spec returns the endpoint as its driver saw it, without the sandbox.
func (r Endpoint) Spec() bowline.EndpointSpec {
	e := bowline.EndpointSpec{
		ID: r.ID, IfName: r.IfName, Addrs: r.Addrs, Options: r.EndpointOptions,
		Ports: r.Ports, Rates: r.Rates, Policy: r.Policy,
	}
	e.MAC, _ = net.ParseMAC(r.MAC) // empty: none was known yet
	return e
}

// SetSpec puts what r must remember of e into it.
func (r *Endpoint) SetSpec(e bowline.EndpointSpec) {
	r.Addrs, r.Ports, r.Rates, r.Policy = e.Addrs, e.Ports, e.Rates, e.Policy
	if e.Options != nil {
		r.EndpointOptions = e.Options
	}
	if e.MAC != nil {
		r.MAC = e.MAC.String()
	}
}

// Endpoints is the store of endpoint records of all drivers and faces on this host.
type Endpoints struct{ store Store }

// OpenEndpoints returns the records below [Run].
func OpenEndpoints() Endpoints { return Endpoints{Run("endpoints")} }

func short(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:10])
}

func endpointName(driver, network, id string) string {
	return driver + "-" + short(network) + "/" + short(id)
}

// pending ends the name of a record that is not Ready.
const pending = "+"

func (r Endpoint) name() string { return endpointName(r.Driver, r.Network, r.ID) }

// Put writes the record, in place of one that was Ready or not. After an error
// there is what was there before, or, if that was Ready as r is, perhaps r.
func (e Endpoints) Put(ctx context.Context, r Endpoint) error {
	name, other := r.name(), r.name()+pending
	if !r.Ready {
		name, other = other, name
	}
	if err := e.store.Put(ctx, name, r); err != nil {
		return err
	}
	err := e.store.Delete(ctx, other)
	if err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if r.Ready { // never without a record what was made
		var was Endpoint
		if e.store.Get(ctx, other, &was) != nil {
			return err
		}
	}
	_ = e.store.Delete(ctx, name)
	return err
}

// Finish makes the record that was Put last Ready, as it is.
func (e Endpoints) Finish(ctx context.Context, r Endpoint) error {
	return e.store.Rename(ctx, r.name()+pending, r.name())
}

// Get reads the record; the error wraps fs.ErrNotExist if there is none.
func (e Endpoints) Get(ctx context.Context, driver, network, id string) (Endpoint, error) {
	r := Endpoint{Ready: true}
	name := endpointName(driver, network, id)
	err := e.store.Get(ctx, name, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return e.getPending(ctx, name)
	}
	return r, err
}

// getPending reads a record that is not Ready, or may have become so meanwhile.
func (e Endpoints) getPending(ctx context.Context, name string) (r Endpoint, err error) {
	err = e.store.Get(ctx, name+pending, &r)
	if errors.Is(err, fs.ErrNotExist) {
		r.Ready = true
		err = e.store.Get(ctx, name, &r)
	}
	return r, err
}

// Delete erases the record. It succeeds if there is none.
func (e Endpoints) Delete(ctx context.Context, driver, network, id string) error {
	name := endpointName(driver, network, id)
	return errors.Join(e.store.Delete(ctx, name+pending), e.store.Delete(ctx, name))
}

// OfNetwork returns the records of one network. Damaged ones are set aside and
// come as errors, joined, beside the good ones.
func (e Endpoints) OfNetwork(ctx context.Context, driver, network string) ([]Endpoint, error) {
	return e.in(ctx, driver+"-"+short(network))
}

// Sweep removes what killed writers of the network's records left. Nobody may be
// writing one meanwhile.
func (e Endpoints) Sweep(driver, network string) error {
	return e.store.Sweep(driver+"-"+short(network), 0)
}

// All returns the records of all networks, errors as in OfNetwork.
func (e Endpoints) All(ctx context.Context) ([]Endpoint, error) {
	dirs, err := e.store.Dirs(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []Endpoint
	var errs []error
	for _, d := range dirs {
		rs, err := e.in(ctx, d)
		all, errs = append(all, rs...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

func (e Endpoints) in(ctx context.Context, dir string) ([]Endpoint, error) {
	names, err := e.store.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var rs []Endpoint
	var errs []error
	for i, name := range names {
		r := Endpoint{Ready: true}
		var err error
		if finished, is := strings.CutSuffix(name, pending); is {
			if i > 0 && names[i-1] == finished {
				continue // it was finished while the names were read
			}
			r, err = e.getPending(ctx, finished)
		} else {
			err = e.store.Get(ctx, name, &r)
		}
		switch {
		case err == nil:
			rs = append(rs, r)
		case !errors.Is(err, fs.ErrNotExist): // ended meanwhile
			errs = append(errs, err)
		}
	}
	return rs, errors.Join(errs...)
}
