package cni

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/ipam"
)

// MainIPAM runs the one command that the environment names as an IPAM plugin,
// for any main plugin that delegates to it. It returns the exit status: 0 done,
// 1 failed.
func MainIPAM(stdin io.Reader, stdout io.Writer) int {
	return answer("ipam", stdin, stdout, func(ctx context.Context, c Command) (Config, error) {
		return runIPAM(ctx, c, stdout, func(o op) ipamPlugin {
			return local{op: o, store: ipam.Open(o.Config.Name)}
		})
	})
}

// An ipamPlugin does what one command asks of IPAM, for whoever delegates to it.
type ipamPlugin interface {
	add(ctx context.Context, stdout io.Writer) error
	release(ctx context.Context) error // needs nothing of the configuration but the network's name
	checkReserved(ctx context.Context) error
	collect(ctx context.Context) error
	ready(ctx context.Context) error
}

// runIPAM returns the configuration beside the error, as run does.
func runIPAM(ctx context.Context, c Command, stdout io.Writer, open func(op) ipamPlugin) (Config, error) {
	if c.Verb == "VERSION" {
		return Config{}, printVersion(c, stdout)
	}
	cfg, err := Parse(c)
	if err != nil {
		return cfg, err
	}
	ctx = journal.With(ctx, "network", cfg.Name)
	if err := supports(c.Verb, cfg.CNIVersion); err != nil {
		return cfg, err
	}
	i := open(op{Command: c, Config: cfg})
	switch c.Verb {
	case "ADD":
		err = i.add(ctx, stdout)
	case "DEL":
		err = i.release(ctx)
	case "CHECK":
		err = i.checkReserved(ctx)
	case "GC":
		err = i.collect(ctx)
	case "STATUS":
		err = i.ready(ctx)
	}
	return cfg, err
}

func (l local) ready(ctx context.Context) error {
	cfg, err := ipam.ParseCNI(l.Stdin, l.Args)
	if err != nil {
		return err
	}
	return l.store.Status(ctx, cfg.Config)
}

// add takes addresses and prints them as the part of a result that is IPAM's:
// without interfaces, which the caller makes.
func (l local) add(ctx context.Context, stdout io.Writer) error {
	var err error
	if l.cfg, err = ipam.ParseCNI(l.Stdin, l.Args); err != nil {
		return err
	}
	dns, err := ipam.ReadDNS(l.cfg.ResolvConf)
	if err != nil {
		return err
	}
	as, err := l.store.Allocate(ctx, l.cfg.Config, ipam.Request{
		Owner: l.owner(), Name: l.cfg.Name, Want: l.cfg.Want, Sandbox: l.Netns,
	})
	if err != nil {
		return err
	}
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		DNS:        types.DNS{Nameservers: dns.Nameservers, Domain: dns.Domain, Search: dns.Search, Options: dns.Options},
	}
	for _, a := range as {
		c := &types100.IPConfig{Address: ipNet(a.Addr)}
		if a.Gateway.IsValid() {
			c.Gateway = a.Gateway.AsSlice()
		}
		r.IPs = append(r.IPs, c)
	}
	for _, route := range l.cfg.Routes {
		r.Routes = append(r.Routes, toRoute(route))
	}
	if err := printResult(stdout, r, l.CNIVersion); err != nil {
		// Nobody will know the addresses.
		return errors.Join(err, l.release(context.WithoutCancel(ctx)))
	}
	return nil
}

// checkReserved wants a reservation for each address of the result that is of
// our ranges, and at least one.
func (l local) checkReserved(ctx context.Context) error {
	var err error
	if l.cfg, err = ipam.ParseCNI(l.Stdin, l.Args); err != nil {
		return err
	}
	prev, err := l.prevResult()
	if err != nil {
		return err
	}
	var want []netip.Addr
	if prev != nil {
		for _, ip := range prev.IPs {
			a, ok := netip.AddrFromSlice(ip.Address.IP)
			if a = a.Unmap(); ok && l.ours(a) && l.ofSandbox(prev, ip) {
				want = append(want, a)
			}
		}
	}
	return l.store.Check(ctx, l.owner(), want)
}

func (l local) ours(a netip.Addr) bool {
	for _, set := range l.cfg.Config.Sets {
		for _, r := range set {
			if r.Subnet.Contains(a) {
				return true
			}
		}
	}
	return false
}

// ofSandbox tells the container's addresses from those that a main plugin
// reports of links in the host.
func (l local) ofSandbox(r *types100.Result, ip *types100.IPConfig) bool {
	if ip.Interface == nil || *ip.Interface < 0 || *ip.Interface >= len(r.Interfaces) {
		return true
	}
	i := r.Interfaces[*ip.Interface]
	return i.Sandbox != "" && (i.Name == l.IfName || l.IfName == "")
}

func (l local) collect(ctx context.Context) error {
	if l.Valid == nil {
		return nil // absent is not empty: libcni leaves the key out when it does not know
	}
	keep := map[string]bool{}
	for _, a := range l.Valid {
		keep[a.ContainerID+"/"+a.IfName] = true
	}
	return l.gc(ctx, keep)
}
