package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
)

// store is the network whose store holds the pool's addresses. Subpools of one
// prefix share it.
func (p Pool) store() string { return "pool:" + p.Space + "/" + p.Prefix.String() }

// config says what is handed out: not what any pool of the same store reserves.
func (p Pool) config(reserved []Reserved) Config {
	r := Range{Subnet: p.Prefix}
	if p.SubPool.IsValid() {
		r.Start, r.End = p.SubPool.Addr(), lastOf(p.SubPool)
	}
	c := Config{Sets: []Set{{r}}, Cooldown: DefaultCooldown}
	for _, r := range reserved {
		c.Exclude = append(c.Exclude, netip.PrefixFrom(r.Addr, r.Addr.BitLen()))
	}
	return c
}

// untouched says that nothing has been taken from the pool.
func (p *Pools) untouched(ctx context.Context, pool Pool) bool {
	as, err := Open(pool.store()).List(ctx)
	return err == nil && len(as) == 0 && len(pool.Reserved) == 0
}

// reserved returns what the pools of one store reserve, together.
func (p *Pools) reserved(ctx context.Context, pool Pool) ([]Reserved, error) {
	all, err := p.List(ctx)
	if err != nil {
		return nil, err
	}
	var rs []Reserved
	for _, other := range all {
		if other.store() == pool.store() {
			rs = append(rs, other.Reserved...)
		}
	}
	return rs, nil
}

// RequestAddress takes an address of a pool: want, or any if that is the zero
// Addr. name is what people call the endpoint, if known: the same name gets
// the same address again, if that is free.
//
// A gateway is durable, and asking for it again returns it. So is what was
// asked for by value, for Docker takes its auxiliary addresses that way, once;
// but after a reboot it may be asked for again. Of any other address the error
// wraps [bowline.ErrConflict] if it is taken, and [bowline.ErrExhausted] if
// none is free.
func (p *Pools) RequestAddress(ctx context.Context, poolID string, want netip.Addr, name string, gateway bool) (netip.Prefix, error) {
	unlock, err := p.lock(ctx)
	if err != nil {
		return netip.Prefix{}, err
	}
	defer unlock()
	pool, err := p.Get(ctx, poolID)
	if err != nil {
		return netip.Prefix{}, err
	}
	reserved, err := p.reserved(ctx, pool)
	if err != nil {
		return netip.Prefix{}, err
	}
	want = want.Unmap()
	if gateway && !want.IsValid() {
		if want, err = pool.gateway(ctx, reserved); err != nil {
			return netip.Prefix{}, err
		}
	}
	if want.IsValid() {
		err := p.reserve(ctx, pool, reserved, want, gateway)
		return netip.PrefixFrom(want, pool.Prefix.Bits()), err
	}
	o, err := newPoolOwner()
	if err != nil {
		return netip.Prefix{}, err
	}
	as, err := Open(pool.store()).Allocate(ctx, pool.config(reserved), Request{Owner: o, Name: name})
	if err != nil {
		return netip.Prefix{}, err
	}
	return as[0].Addr, nil
}

// gateway returns the address for a gateway of which nothing was said: the one
// that the pool has, or the first host, or the first that is free.
func (p Pool) gateway(ctx context.Context, reserved []Reserved) (netip.Addr, error) {
	for _, r := range p.Reserved {
		if r.Gateway {
			return r.Addr, nil
		}
	}
	s := Open(p.store())
	whole := p
	whole.SubPool = netip.Prefix{}
	spaces, err := whole.config(reserved).spaces()
	if err != nil {
		return netip.Addr{}, err
	}
	for i := range min(spaces[0].size(), 1<<16) {
		a := spaces[0].at(i)
		if _, taken, err := s.Holder(ctx, a); err != nil || !taken {
			return a, err
		}
	}
	return netip.Addr{}, bowline.Wrong(bowline.ErrExhausted, fmt.Sprintf("pool %q: no address is free for the gateway", p.ID))
}

// reserve takes a for good.
func (p *Pools) reserve(ctx context.Context, pool Pool, reserved []Reserved, a netip.Addr, gateway bool) error {
	if !pool.Prefix.Contains(a) || a == pool.Prefix.Addr() || a.Is4() && a == lastOf(pool.Prefix) {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("requested address %s: want a host address of %s", a, pool.Prefix))
	}
	boot := bootDir()
	for _, r := range reserved {
		again := gateway && r.Gateway && slices.Contains(pool.Reserved, r)
		if r.Addr != a || again || !r.Gateway && r.Boot != boot {
			continue
		}
		what := "an address that was asked for by value"
		if r.Gateway {
			what = "the gateway"
		}
		return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("requested address %s of %s is taken: it is %s", a, pool.Prefix, what))
	}
	if o, taken, err := Open(pool.store()).Holder(ctx, a); err != nil {
		return err
	} else if taken && o != (Owner{}) {
		return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("requested address %s of %s is taken by a container", a, pool.Prefix))
	}
	pool.Reserved = slices.DeleteFunc(pool.Reserved, func(r Reserved) bool { return r.Addr == a })
	pool.Reserved = append(pool.Reserved, Reserved{a, gateway, boot})
	return p.put(ctx, pool)
}

func (p *Pools) put(ctx context.Context, pool Pool) error {
	if err := p.st.Put(ctx, poolName(pool.ID), pool); err != nil {
		return fmt.Errorf("pools: %w", err)
	}
	return nil
}

// ReleaseAddress gives an address back. It succeeds if nobody has it, or if
// there is no such pool.
func (p *Pools) ReleaseAddress(ctx context.Context, poolID string, addr netip.Addr) error {
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	pool, err := p.Get(ctx, poolID)
	if err != nil {
		if errors.Is(err, bowline.ErrUnknown) {
			return nil
		}
		return err
	}
	addr = addr.Unmap()
	if i := slices.IndexFunc(pool.Reserved, func(r Reserved) bool { return r.Addr == addr }); i >= 0 {
		pool.Reserved = slices.Delete(pool.Reserved, i, i+1)
		return p.put(ctx, pool)
	}
	s := Open(pool.store())
	o, taken, err := s.Holder(ctx, addr)
	if err != nil || !taken || o == (Owner{}) {
		return err
	}
	_, err = s.Release(ctx, o)
	return err
}

// Quarantine keeps an address of a container from being handed out for a time,
// because somebody else uses it. It reports whether a pool had given it.
func (p *Pools) Quarantine(ctx context.Context, c Conflict) (ours bool, err error) {
	unlock, err := p.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	all, err := p.List(ctx)
	if err != nil && !errors.Is(err, bowline.ErrDamaged) {
		return false, err
	}
	for _, pool := range all {
		if !pool.Prefix.Contains(c.Addr) {
			continue
		}
		s := Open(pool.store())
		o, taken, err := s.Holder(ctx, c.Addr)
		if err != nil {
			return false, err
		}
		byValue := slices.ContainsFunc(pool.Reserved, func(r Reserved) bool { return r.Addr == c.Addr && !r.Gateway })
		if taken && o != (Owner{}) || byValue {
			return true, s.Quarantine(ctx, o, 0, c)
		}
	}
	return false, nil
}

// newPoolOwner makes up an owner, for Docker names none.
func newPoolOwner() (Owner, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid") // a new one at each read
	if err != nil {
		return Owner{}, fmt.Errorf("pools: %w", err)
	}
	return Owner{Container: "docker-" + strings.TrimSpace(string(id))}, nil
}
