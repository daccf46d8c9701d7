package cnm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// A Network is the record of one Docker network. It is durable: dockerd tells a
// network once, when it is created, and never again.
type Network struct {
	Driver  string            `json:"driver"` // "bridge"
	ID      string            `json:"id"`     // Docker's
	Pools   []bowline.Pool    `json:"pools,omitempty"`
	Options map[string]string `json:"options,omitempty"` // in the driver's grammar
	Prefix  string            `json:"prefix"`            // of the links' names inside, "eth"
	Created time.Time         `json:"created"`
	// Ready is set when the network was made; without it dockerd was never told
	// that there is one.
	Ready bool `json:"ready"`
}

// Config returns the network as its driver sees it.
func (n Network) Config() bowline.NetworkConfig {
	return bowline.NetworkConfig{ID: n.ID, Pools: n.Pools, Options: n.Options}
}

// same tells whether a repeated CreateNetwork asks for what there is.
func (n Network) same(m Network) bool {
	return n.Prefix == m.Prefix && slices.Equal(n.Pools, m.Pools) && maps.Equal(n.Options, m.Options)
}

// Networks is the store of the Docker networks of one driver.
type Networks struct {
	store  state.Store
	driver string
}

// OpenNetworks returns the records of the driver's networks, below [state.Lib].
func OpenNetworks(driver string) Networks {
	return Networks{state.Lib("networks", "docker-"+state.Key(driver)), driver}
}

// Get reads the record. The error wraps [bowline.ErrUnknown] if there is none.
func (s Networks) Get(ctx context.Context, id string) (Network, error) {
	var n Network
	err := s.store.Get(ctx, state.Key(id), &n)
	if errors.Is(err, fs.ErrNotExist) {
		return Network{}, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf(
			"network %.12s: bowline-%s has no record of it: want one made with -d bowline-%s, and the records that were there then; remove the network and create it again",
			id, s.driver, s.driver))
	}
	return n, err
}

// All returns the records in order of their IDs. Damaged ones come as errors,
// joined, beside the good ones.
func (s Networks) All(ctx context.Context) ([]Network, error) {
	names, err := s.store.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var ns []Network
	var errs []error
	for _, name := range names {
		var n Network
		switch err := s.store.Get(ctx, name, &n); {
		case err == nil:
			ns = append(ns, n)
		case !errors.Is(err, fs.ErrNotExist): // removed meanwhile
			errs = append(errs, err)
		}
	}
	return ns, errors.Join(errs...)
}

func (s Networks) put(ctx context.Context, n Network) error {
	return s.store.Put(ctx, state.Key(n.ID), n)
}

func (s Networks) delete(ctx context.Context, id string) error {
	return s.store.Delete(ctx, state.Key(id))
}
