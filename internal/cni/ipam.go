package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/ipam"
)

// ownIPAM is the IPAM type that is done inside this process.
const ownIPAM = "bowline-ipam"

// ownDHCP is the IPAM type whose daemon this process asks.
const ownDHCP = "bowline-dhcp"

type addrs = []netip.Prefix

// An ipamCaller gives and takes addresses for one command.
type ipamCaller interface {
	delegate() string // the plugin's type, empty for our own
	allocate(ctx context.Context, sandbox string) (lease, error)
	// instead gives others in place of addresses that somebody else uses.
	instead(ctx context.Context, sandbox string, used []ipam.Conflict) (lease, error)
	release(ctx context.Context) error
	check(ctx context.Context, want addrs) error
	gc(ctx context.Context, keep map[string]bool) error
	status(ctx context.Context) error
}

// ipam returns who gives addresses. The configuration must be right.
func (o op) ipam() (ipamCaller, error) {
	switch o.IPAMType {
	case "":
		return noIPAM{}, nil
	case ownIPAM:
		cfg, err := ipam.ParseCNI(o.Stdin, o.Args)
		if err != nil {
			return nil, err
		}
		return local{op: o, cfg: cfg, store: ipam.Open(o.Config.Name)}, nil
	case ownDHCP:
		_, _, err := o.dhcpRequest()
		return leased{o}, err
	}
	return o.findDelegate(o.IPAMType), nil
}

// ipamForDelete returns who takes addresses back, even if the configuration
// would not do for giving any, or names another plugin than the record.
func (o op) ipamForDelete(r state.Endpoint) (ipamCaller, error) {
	kind := o.IPAMType
	if r.IPAM != "" {
		kind = r.IPAM
	}
	switch kind {
	case "":
		return noIPAM{}, nil
	case ownIPAM:
		return local{op: o, store: ipam.Open(o.Config.Name)}, nil
	case ownDHCP:
		return leased{o}, nil
	}
	return o.findDelegate(kind), nil
}

// pools returns the pools that the configuration names, as far as it is ours.
func (o op) pools() []bowline.Pool {
	if o.IPAMType != ownIPAM {
		return nil
	}
	cfg, err := ipam.ParseCNI(o.Stdin, o.Args)
	if err != nil {
		return nil
	}
	var ps []bowline.Pool
	for _, set := range cfg.Config.Sets {
		for _, r := range set {
			ps = append(ps, bowline.Pool{Prefix: r.Subnet, Gateway: r.Gateway})
		}
	}
	return ps
}

// noIPAM is a network without addresses.
type noIPAM struct{}

func (noIPAM) delegate() string                                { return "" }
func (noIPAM) allocate(context.Context, string) (lease, error) { return lease{}, nil }
func (noIPAM) instead(context.Context, string, []ipam.Conflict) (lease, error) {
	return lease{}, nil
}
func (noIPAM) release(context.Context) error             { return nil }
func (noIPAM) check(context.Context, addrs) error        { return nil }
func (noIPAM) gc(context.Context, map[string]bool) error { return nil }
func (noIPAM) status(context.Context) error              { return nil }

// local is our own allocator, in this process.
type local struct {
	op
	cfg   ipam.CNI
	store *ipam.Store
}

func (l local) delegate() string { return ownIPAM }

func (l local) owner() ipam.Owner {
	return ipam.Owner{Container: l.ContainerID, IfName: l.IfName}
}

func (l local) allocate(ctx context.Context, sandbox string) (lease, error) {
	return l.lease(func() ([]ipam.Allocation, error) {
		return l.store.Allocate(ctx, l.cfg.Config, l.request(sandbox))
	})
}

// instead gives none in place of an address that was asked for: who did so wants
// that one.
func (l local) instead(ctx context.Context, sandbox string, used []ipam.Conflict) (lease, error) {
	if i := slices.IndexFunc(used, func(c ipam.Conflict) bool { return slices.Contains(l.cfg.Want, c.Addr) }); i >= 0 {
		err := bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: requested address %s; want another one, or any", l.cfg.Network, used[i]))
		return lease{}, errors.Join(err, l.store.Quarantine(ctx, l.owner(), l.cfg.Config.Quarantine, used...))
	}
	return l.lease(func() ([]ipam.Allocation, error) {
		return l.store.Replace(ctx, l.cfg.Config, l.request(sandbox), used...)
	})
}

func (l local) request(sandbox string) ipam.Request {
	return ipam.Request{Owner: l.owner(), Name: l.cfg.Name, Want: l.cfg.Want, Sandbox: sandbox}
}

// lease returns what take takes, and what goes with it.
func (l local) lease(take func() ([]ipam.Allocation, error)) (lease, error) {
	dns, err := ipam.ReadDNS(l.cfg.ResolvConf)
	if err != nil {
		return lease{}, err
	}
	as, err := take()
	if err != nil {
		return lease{}, err
	}
	got := lease{
		routes: l.cfg.Routes,
		dns: types.DNS{
			Nameservers: dns.Nameservers, Domain: dns.Domain, Search: dns.Search, Options: dns.Options,
		},
	}
	for _, a := range as {
		got.ips = append(got.ips, leaseIP{a.Addr, a.Gateway})
	}
	return got, nil
}

// release takes no damaged record for a failure: all that belonged to the
// attachment has been found by search and released.
func (l local) release(ctx context.Context) error {
	_, err := l.store.Release(ctx, l.owner())
	if errors.Is(err, bowline.ErrDamaged) {
		slog.WarnContext(ctx, "a damaged record was set aside", "error", err)
		return nil
	}
	return err
}

func (l local) check(ctx context.Context, want addrs) error {
	var as []netip.Addr
	for _, p := range want {
		as = append(as, p.Addr())
	}
	return l.store.Check(ctx, l.owner(), as)
}

func (l local) gc(ctx context.Context, keep map[string]bool) error {
	_, err := l.store.GC(ctx, func(w ipam.Owner) bool { return keep[w.Container+"/"+w.IfName] })
	if err != nil || len(keep) > 0 {
		return err
	}
	return l.store.Remove(ctx)
}

func (l local) status(ctx context.Context) error { return l.store.Status(ctx, l.cfg.Config) }
