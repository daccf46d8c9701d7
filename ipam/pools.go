package ipam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// Pools are the prefixes that an engine asked for, by Docker's rules. They
// survive reboots; the addresses taken from them do not, except those that an
// engine never asks for twice: gateways, and what it asked for by value.
// Its methods may be called from several goroutines and processes at once.
type Pools struct {
	st state.Store
	// Replay says that the engine repeats its requests when it starts: then
	// asking for a pool that exists returns it, instead of being a conflict.
	Replay bool
}

// A Pool is a prefix that belongs to one network of an engine.
type Pool struct {
	ID       string       `json:"id"`
	Space    string       `json:"space"` // within which pools must not overlap
	Prefix   netip.Prefix `json:"prefix"`
	SubPool  netip.Prefix `json:"subPool,omitzero"` // what addresses are chosen from; zero: Prefix
	Reserved []Reserved   `json:"reserved,omitempty"`
}

// Reserved is an address that outlives reboots.
type Reserved struct {
	Addr    netip.Addr `json:"addr"`
	Gateway bool       `json:"gateway,omitempty"`
	Boot    string     `json:"boot,omitempty"` // when it was asked for
}

// OpenPools returns the pools below /var/lib/bowline/ipam-pools.
func OpenPools() *Pools { return &Pools{st: state.Lib("ipam-pools")} }

const poolsDir = "pools"

func poolName(id string) string { return poolsDir + "/" + state.Key(id) }

// lock waits for the exclusive lock of all pools.
func (p *Pools) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("pools: %w", err)
	}
	fd, _, err := lockDir(p.st.Dir, func() error { return os.MkdirAll(p.st.Dir, 0o700) })
	if err != nil {
		return nil, fmt.Errorf("pools: %w", err)
	}
	return func() { unix.Close(fd) }, nil
}

// List returns all pools. Damaged records come as an error that wraps
// [bowline.ErrDamaged], beside the good ones.
func (p *Pools) List(ctx context.Context) ([]Pool, error) {
	names, err := p.st.List(ctx, poolsDir)
	if err != nil {
		return nil, fmt.Errorf("pools: %w", err)
	}
	var pools []Pool
	var errs []error
	for _, name := range names {
		var pool Pool
		if err := p.st.Get(ctx, name, &pool); err == nil {
			pools = append(pools, pool)
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, damage(err))
		}
	}
	return pools, errors.Join(errs...)
}

func damage(err error) error {
	var d *state.DamagedError
	if errors.As(err, &d) {
		return bowline.Wrong(bowline.ErrDamaged, "pools: "+err.Error())
	}
	return fmt.Errorf("pools: %w", err)
}

// RequestPool gives out a pool: the prefix named by pool, such as 10.1.0.0/24,
// with addresses chosen from subpool if that is not empty; or one that overlaps
// no other if pool is empty.
//
// The error wraps [bowline.ErrConflict] if pool overlaps another of the same
// space. Only the same prefix with another subpool may be asked for again: the
// two share their addresses. A pool from which nothing has been taken yet is
// what a killed engine left, so asking for it again returns it.
func (p *Pools) RequestPool(ctx context.Context, space, pool, subpool string, v6 bool) (Pool, error) {
	unlock, err := p.lock(ctx)
	if err != nil {
		return Pool{}, err
	}
	defer unlock()
	all, err := p.List(ctx)
	if err != nil && !errors.Is(err, bowline.ErrDamaged) {
		return Pool{}, err
	}
	want := Pool{Space: space}
	if pool == "" {
		if subpool != "" {
			return Pool{}, wrong("subpool", subpool, "a pool that it is a part of")
		}
		want.Prefix, err = p.choose(ctx, all, v6)
	} else {
		want.Prefix, want.SubPool, err = parsePool(pool, subpool)
	}
	if err != nil {
		return Pool{}, err
	}
	want.ID = poolID(want)
	for _, other := range all {
		if other.ID == want.ID {
			if p.Replay || p.untouched(ctx, other) {
				return other, nil
			}
			return Pool{}, overlap(want, other)
		}
	}
	for _, other := range all {
		sibling := other.Prefix == want.Prefix && want.SubPool.IsValid() && other.SubPool.IsValid()
		if other.Space == space && other.Prefix.Overlaps(want.Prefix) && !sibling {
			return Pool{}, overlap(want, other)
		}
	}
	if err := p.st.Put(ctx, poolName(want.ID), want); err != nil {
		return Pool{}, fmt.Errorf("pools: %w", err)
	}
	return want, nil
}

func overlap(want, other Pool) error {
	return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("pool %s overlaps %s, which a network has already; want a prefix of its own", want.Prefix, other.Prefix))
}

// poolID is what the engine will call the pool. It says all that Docker asked
// for, which helps in its logs.
func poolID(p Pool) string {
	id := p.Space + "/" + p.Prefix.String()
	if p.SubPool.IsValid() {
		id += "/" + p.SubPool.String()
	}
	return id
}

func parsePool(pool, subpool string) (prefix, sub netip.Prefix, err error) {
	prefix, err = netip.ParsePrefix(pool)
	if err != nil || prefix.Addr().Is4In6() {
		return prefix, sub, wrong("pool", pool, "an IP prefix such as 10.1.0.0/24")
	}
	prefix = prefix.Masked()
	if prefix.Bits() > prefix.Addr().BitLen()-2 {
		return prefix, sub, wrong("pool", pool, fmt.Sprintf("a prefix of at most /%d, for the network and the gateway take an address each", prefix.Addr().BitLen()-2))
	}
	if subpool == "" {
		return prefix, sub, nil
	}
	sub, err = netip.ParsePrefix(subpool)
	if err != nil || sub.Bits() < prefix.Bits() || !prefix.Contains(sub.Addr()) {
		return prefix, sub, wrong("subpool", subpool, "a prefix within "+prefix.String())
	}
	if sub = sub.Masked(); sub == prefix {
		sub = netip.Prefix{}
	}
	return prefix, sub, nil
}

// ReleasePool takes a pool back, with all addresses if no other subpool shares
// them. It succeeds if there is no such pool.
func (p *Pools) ReleasePool(ctx context.Context, id string) error {
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	pool, err := p.Get(ctx, id)
	if errors.Is(err, bowline.ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := p.List(ctx)
	if err != nil && !errors.Is(err, bowline.ErrDamaged) {
		return err
	}
	shared := false
	for _, other := range all {
		shared = shared || other.ID != id && other.store() == pool.store()
	}
	if !shared {
		s := Open(pool.store())
		if _, err := s.GC(ctx, func(Owner) bool { return false }); err != nil && !errors.Is(err, bowline.ErrDamaged) {
			return err
		}
		if err := s.Remove(ctx); err != nil {
			return err
		}
	}
	if err := p.st.Delete(ctx, poolName(id)); err != nil {
		return fmt.Errorf("pools: %w", err)
	}
	return nil
}

// Get returns a pool. The error wraps [bowline.ErrUnknown] if there is none.
func (p *Pools) Get(ctx context.Context, id string) (Pool, error) {
	var pool Pool
	err := p.st.Get(ctx, poolName(id), &pool)
	if errors.Is(err, fs.ErrNotExist) {
		return pool, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("pool %q: there is no such pool", id))
	}
	if err != nil {
		return pool, damage(err)
	}
	return pool, nil
}
