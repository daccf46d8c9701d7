package cnm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/ipam"
)

// An IPAMDriver lets Docker use the allocator. The zero IPAMDriver is ready for
// [Serve]. dockerd must know its process by one name only: under a second one
// it would introduce itself again.
//
// dockerd itself looks for no duplicates when the IPAM is remote: neither for
// networks with the same subnet nor for containers with the same --ip. So they
// are refused here. But when dockerd starts it asks for all it has once more,
// in the same words, and takes a refusal for the end of the network. What tells
// the two apart is that a starting dockerd introduces itself first: from then
// on each thing may be asked for once that was taken before.
type IPAMDriver struct {
	pools *ipam.Pools

	mu      sync.Mutex // held during each call, so that asking and claiming are one
	replays bool       // dockerd has introduced itself to this process
	// claimed are the pools, and their addresses, asked for since then.
	claimed map[string]map[netip.Addr]bool
}

// register puts the methods on m.
func (d *IPAMDriver) register(m *socket.Mux, _ *slog.Logger) {
	d.pools, d.claimed = ipam.OpenPools(), map[string]map[netip.Addr]bool{}
	const i = "IpamDriver"
	m.Implements(i)
	m.OnActivate(d.activated)
	socket.HandleEmpty(m, i+".GetCapabilities", d.capabilities)
	socket.HandleEmpty(m, i+".GetDefaultAddressSpaces", d.addressSpaces)
	socket.Handle(m, i+".RequestPool", d.requestPool)
	socket.Handle(m, i+".ReleasePool", d.releasePool)
	socket.Handle(m, i+".RequestAddress", d.requestAddress)
	socket.Handle(m, i+".ReleaseAddress", d.releaseAddress)
}

// activated begins a new round of requests.
func (d *IPAMDriver) activated() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replays, d.claimed = true, map[string]map[netip.Addr]bool{}
}

func (d *IPAMDriver) capabilities(context.Context) (ipamCapabilities, error) {
	return ipamCapabilities{RequiresRequestReplay: true}, nil
}

func (d *IPAMDriver) addressSpaces(context.Context) (addressSpacesResponse, error) {
	return addressSpacesResponse{"local", "global"}, nil
}

func (d *IPAMDriver) requestPool(ctx context.Context, r requestPoolRequest) (requestPoolResponse, error) {
	for _, k := range slices.Sorted(maps.Keys(r.Options)) {
		if !strings.HasPrefix(k, labelPrefix) { // those are Docker's own
			return requestPoolResponse{}, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("ipam option %s=%q: want no option, there are none", k, r.Options[k]))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.pool(ctx, r)
	if err != nil {
		return requestPoolResponse{}, err
	}
	d.claimed[p.ID] = map[netip.Addr]bool{}
	return requestPoolResponse{PoolID: p.ID, Pool: p.Prefix.String(), Data: map[string]string{}}, nil
}

// pool takes the pool, or takes it up if it was there before dockerd started.
func (d *IPAMDriver) pool(ctx context.Context, r requestPoolRequest) (ipam.Pool, error) {
	p, err := d.pools.RequestPool(ctx, r.AddressSpace, r.Pool, r.SubPool, r.V6)
	if err == nil && d.claimed[p.ID] != nil {
		// Nothing was taken from it yet, so it was given again.
		return p, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("pool %s: a network has it already; want a prefix of its own", p.Prefix))
	}
	if err == nil || !d.replays || !errors.Is(err, bowline.ErrConflict) {
		return p, err
	}
	again := *d.pools
	again.Replay = true
	p, errAgain := again.RequestPool(ctx, r.AddressSpace, r.Pool, r.SubPool, r.V6)
	if errAgain == nil && d.claimed[p.ID] == nil {
		return p, nil
	}
	return p, err
}

func (d *IPAMDriver) releasePool(ctx context.Context, r releasePoolRequest) (empty, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.claimed, r.PoolID)
	return empty{}, d.pools.ReleasePool(context.WithoutCancel(ctx), r.PoolID)
}

func (d *IPAMDriver) requestAddress(ctx context.Context, r requestAddressRequest) (requestAddressResponse, error) {
	var want netip.Addr
	if r.Address != "" {
		var err error
		if want, err = parseAddr(r.Address); err != nil {
			return requestAddressResponse{}, err
		}
	}
	gateway := r.Options[optionType] == labelGateway
	d.mu.Lock()
	defer d.mu.Unlock()
	a, err := d.pools.RequestAddress(ctx, r.PoolID, want, r.Options[labelName], gateway)
	if errors.Is(err, bowline.ErrConflict) && d.held(ctx, r.PoolID, want) {
		p, errGet := d.pools.Get(ctx, r.PoolID)
		a, err = netip.PrefixFrom(want, p.Prefix.Bits()), errGet
	}
	if err != nil {
		return requestAddressResponse{}, err
	}
	if d.claimed[r.PoolID] == nil {
		d.claimed[r.PoolID] = map[netip.Addr]bool{}
	}
	d.claimed[r.PoolID][a.Addr()] = true
	return requestAddressResponse{Address: a.String(), Data: map[string]string{}}, nil
}

// held reports whether an address that is taken was taken before dockerd
// started, and not as a gateway: then this is dockerd taking it up again.
func (d *IPAMDriver) held(ctx context.Context, pool string, a netip.Addr) bool {
	if !d.replays || !a.IsValid() {
		return false
	}
	for _, claimed := range d.claimed { // of any pool: subpools share addresses
		if claimed[a] {
			return false
		}
	}
	p, err := d.pools.Get(ctx, pool)
	return err == nil && !slices.ContainsFunc(p.Reserved, func(r ipam.Reserved) bool { return r.Addr == a && r.Gateway })
}

func (d *IPAMDriver) releaseAddress(ctx context.Context, r releaseAddressRequest) (empty, error) {
	a, err := parseAddr(r.Address)
	if err != nil {
		return empty{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.claimed[r.PoolID], a)
	return empty{}, d.pools.ReleaseAddress(context.WithoutCancel(ctx), r.PoolID, a)
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("address %q: want an IP address", s))
	}
	return a.Unmap(), nil
}
