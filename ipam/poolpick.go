package ipam

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/bowline-net/bowline"
)

// defaultPools is where pools come from when the engine names none, in /24.
// It is apart from Docker's own (172.17-31.0.0/16, 192.168.0.0/16), Swarm's
// (10.0.0.0/16), podman's (10.88-89.0.0/16) and the usual ones of Kubernetes
// (10.96.0.0/12, 10.244.0.0/16).
const defaultPools = "10.192.0.0/11"

// choose returns a prefix that overlaps no pool: a /24 of defaultPools, or a
// /64 of this host's unique local prefix. The engine knows the routes of the
// host: if one is in the way it holds the pool and asks for another.
func (p *Pools) choose(ctx context.Context, all []Pool, v6 bool) (netip.Prefix, error) {
	within, bits := netip.MustParsePrefix(defaultPools), 24
	if v6 {
		var err error
		if within, err = p.uniqueLocal(ctx); err != nil {
			return netip.Prefix{}, err
		}
		bits = 64
	}
	for try := netip.PrefixFrom(within.Addr(), bits); within.Contains(try.Addr()); {
		free := true
		for _, other := range all {
			free = free && !other.Prefix.Overlaps(try)
		}
		if free {
			return try, nil
		}
		next := lastOf(try).Next()
		if !next.IsValid() {
			break
		}
		try = netip.PrefixFrom(next, bits)
	}
	return netip.Prefix{}, bowline.Wrong(bowline.ErrExhausted, fmt.Sprintf("no free pool: every /%d of %s is in use; name a subnet", bits, within))
}

// uniqueLocal returns the /48 of this host, made up once at random (RFC 4193,
// 3.2).
func (p *Pools) uniqueLocal(ctx context.Context) (netip.Prefix, error) {
	const name = "unique-local"
	var prefix netip.Prefix
	err := p.st.Get(ctx, name, &prefix)
	if err == nil && prefix.IsValid() {
		return prefix, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(damage(err), bowline.ErrDamaged) {
		return prefix, fmt.Errorf("pools: %w", err)
	}
	seed, err := os.ReadFile("/proc/sys/kernel/random/uuid") // a new one at each read
	if err != nil {
		return prefix, fmt.Errorf("pools: make up a unique local prefix: %w", err)
	}
	d := sha256.Sum256(seed)
	a := [16]byte{0: 0xfd}
	copy(a[1:6], d[:])
	prefix = netip.PrefixFrom(netip.AddrFrom16(a), 48)
	if err := p.st.Put(ctx, name, prefix); err != nil {
		return prefix, fmt.Errorf("pools: %w", err)
	}
	return prefix, nil
}
