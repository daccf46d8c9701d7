// Package keeper keeps leases of DHCP servers for as long as their endpoints
// live.
//
// A lease is a record first: it is written before anybody is told of the
// address, so that whoever kills this process kills no lease. Between exchanges
// a lease is a goroutine that waits; no thread, no socket and no open namespace
// belongs to it, for an open namespace would never end.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/internal/state"
)

// A Keeper keeps the leases of one host.
type Keeper struct {
	log       *slog.Logger
	store     state.Store
	endpoints state.Endpoints

	mu     sync.Mutex
	leases map[dhcp.Key]*lease
	busy   map[string]chan struct{} // by record name: closed when the call that changes it ends
	base   context.Context          // of what goes on between calls
	soon   chan struct{}            // has the sweep look again
	slots  chan struct{}            // one for each that may ask the kernel at once
}

// Store returns where leases are on record.
func Store() state.Store { return state.Run("dhcp") }

// New returns a keeper that keeps nothing yet.
func New(log *slog.Logger) *Keeper {
	return &Keeper{
		log: log, store: Store(), endpoints: state.OpenEndpoints(),
		leases: map[dhcp.Key]*lease{}, busy: map[string]chan struct{}{},
		soon: make(chan struct{}, 1), slots: make(chan struct{}, slots),
	}
}

// slots is how many may ask the kernel at once. Each takes a thread while the
// kernel is busy with other links, and the kernel does one after the other.
const slots = 8

// kernel runs f, which asks the kernel and waits for nobody else.
func (k *Keeper) kernel(f func() error) error {
	k.slots <- struct{}{}
	defer func() { <-k.slots }()
	return f()
}

// open finds the lease's link by its record.
func (k *Keeper) open(ctx context.Context, r *record) (p *place, err error) {
	err = k.kernel(func() error {
		p, err = r.open(ctx)
		return err
	})
	return p, err
}

// Register puts the methods on m.
func (k *Keeper) Register(m *socket.Mux) {
	handle(m, dhcp.MethodAcquire, k.acquire)
	handle(m, dhcp.MethodGet, k.get)
	handle(m, dhcp.MethodJoin, k.join)
	handle(m, dhcp.MethodRelease, k.release)
	handle(m, dhcp.MethodAdopt, k.adopt)
	handle(m, dhcp.MethodCollect, k.collect)
	handle(m, dhcp.MethodStatus, func(context.Context, dhcp.Nothing) (dhcp.Nothing, error) { return dhcp.Nothing{}, nil })
}

// handle serves the method with f, and tells clients the number of an error's
// cause beside its text.
func handle[Req, Resp any](m *socket.Mux, name string, f func(context.Context, Req) (Resp, error)) {
	socket.Handle(m, name, func(ctx context.Context, r Req) (Resp, error) {
		resp, err := f(ctx, r)
		if err != nil {
			err = coded{err}
		}
		return resp, err
	})
}

type coded struct{ error }

func (c coded) Code() int     { return bowline.Code(c.error) }
func (c coded) Unwrap() error { return c.error }

// Restore takes up the leases that are on record, and keeps them until ctx ends.
// It must be called once, before any method is.
func (k *Keeper) Restore(ctx context.Context) error {
	k.base = ctx
	dirs, err := k.store.Dirs(ctx, "")
	if err != nil {
		return err
	}
	for _, d := range dirs {
		names, err := k.store.List(ctx, d)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := k.restore(ctx, n); err != nil {
				k.log.Warn("lease not restored", "record", n, "error", err)
			}
		}
	}
	return nil
}

func (k *Keeper) restore(ctx context.Context, file string) error {
	var r record
	if err := k.store.Get(ctx, file, &r); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if r.BootID != state.BootID() { // the link went with its boot
		return k.store.Delete(ctx, file)
	}
	l := k.add(r)
	if r.Four == nil && r.Six == nil && r.Router == nil {
		// Killed before anybody was told of it.
		return l.end(ctx, "it was never completed")
	}
	l.start()
	return nil
}

// add makes the lease known.
func (k *Keeper) add(r record) *lease {
	l := &lease{k: k, key: r.Key, rec: r, log: k.log.With("network", r.Network, "endpoint", r.ID)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leases[r.Key] = l
	return l
}

// find returns the lease of the network's endpoint, whose key may lack the
// link's name; nil: there is none.
func (k *Keeper) find(key dhcp.Key) *lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.leases {
		if l.key.Network == key.Network && l.key.ID == key.ID {
			return l
		}
	}
	return nil
}

// all returns the leases of the network, or of all if it is empty.
func (k *Keeper) all(network string) []*lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ls []*lease
	for _, l := range k.leases {
		if network == "" || l.key.Network == network {
			ls = append(ls, l)
		}
	}
	return ls
}

// turn waits until no other call changes the endpoint's lease.
func (k *Keeper) turn(ctx context.Context, key dhcp.Key) (end func(), err error) {
	n := name(key)
	for {
		k.mu.Lock()
		other, taken := k.busy[n]
		if !taken {
			mine := make(chan struct{})
			k.busy[n] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.busy, n)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("network %q: dhcp: wait for another call of endpoint %s: %w", key.Network, key.ID, ctx.Err())
		}
	}
}

// get answers what the link has now.
func (k *Keeper) get(ctx context.Context, key dhcp.Key) (dhcp.Lease, error) {
	l := k.find(key)
	if l == nil {
		return dhcp.Lease{}, bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("network %q: dhcp: there is no lease for endpoint %s", key.Network, key.ID))
	}
	r := l.record()
	if got := r.lease(); len(got.Addrs) > 0 && (r.Four != nil || !r.IPv4) {
		return got, nil
	}
	return dhcp.Lease{}, bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("network %q: dhcp: the lease of endpoint %s has expired, and no server gives another", key.Network, key.ID))
}

// join notes where the link goes. It may not be there yet, nor the namespace.
func (k *Keeper) join(ctx context.Context, j dhcp.Joined) (none dhcp.Nothing, err error) {
	end, err := k.turn(ctx, j.Key)
	if err != nil {
		return none, err
	}
	defer end()
	l := k.find(j.Key)
	if l == nil {
		return none, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %q: dhcp: there is no lease for endpoint %s", j.Network, j.ID))
	}
	return none, l.change(ctx, func(r *record) { r.Sandbox, r.NetnsIno = j.Sandbox, 0 })
}

// collect gives up the leases of endpoints that are not listed.
func (k *Keeper) collect(ctx context.Context, kept dhcp.Kept) (none dhcp.Nothing, err error) {
	keep := map[string]bool{}
	for _, id := range kept.IDs {
		keep[id] = true
	}
	var errs []error
	for _, l := range k.all(kept.Network) {
		if key := l.key; !keep[key.ID] {
			_, err := k.release(ctx, dhcp.Released{Key: key})
			errs = append(errs, err)
		}
	}
	return none, errors.Join(errs...)
}
