package cni

import (
	"context"
	"fmt"
	"os"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
)

// sharesHost reports whether the container is in the plugin's own namespace, and
// the driver takes that for what it is: the host's.
func (o op) sharesHost() bool {
	if _, ok := o.Driver.(bowline.Sharer); !ok || o.Netns == "" || os.Getenv("CNI_NETNS_OVERRIDE") != "" {
		return false
	}
	return isOwn(o.Netns)
}

// isOwn reports whether the namespace at path is that of the calling thread.
func isOwn(path string) bool {
	theirs, ok := netns.Stat(path)
	own, known := netns.Stat("/proc/thread-self/ns/net")
	return ok && known && own == theirs
}

// addOrShare is ADD.
func (o op) addOrShare(ctx context.Context) (*types100.Result, error) {
	if o.sharesHost() {
		return o.share(ctx)
	}
	return o.add(ctx)
}

// share says what a container has that shares the host's namespace. It makes
// nothing, and so there is no record, and nothing for DEL to undo.
func (o op) share(ctx context.Context) (*types100.Result, error) {
	wrong := func(what string) error {
		return invalid("network %q: %s: want none for a container that shares all of the host's network", o.Config.Name, what)
	}
	switch {
	case o.IPAMType != "":
		return nil, wrong("ipam")
	case len(o.Ports) > 0:
		return nil, wrong("runtimeConfig: portMappings")
	case o.Rates != bowline.Rates{}:
		return nil, wrong("bandwidth")
	}
	links, routes, err := o.Driver.(bowline.Sharer).Shared(ctx, o.network(nil))
	if err != nil {
		return nil, err
	}
	r := &types100.Result{DNS: o.DNS}
	for i, l := range links {
		r.Interfaces = append(r.Interfaces, &types100.Interface{Name: l.Name, Mac: l.MAC.String(), Mtu: l.MTU, Sandbox: o.Netns})
		for _, a := range l.Addrs {
			ip := &types100.IPConfig{Interface: &i, Address: ipNet(a)}
			for _, route := range routes {
				if a.Masked().Contains(route.Via) {
					ip.Gateway = route.Via.AsSlice()
				}
			}
			r.IPs = append(r.IPs, ip)
		}
	}
	for _, route := range routes {
		r.Routes = append(r.Routes, toRoute(route))
	}
	return r, nil
}

// checkShared compares the addresses that ADD reported with those of the host.
func (o op) checkShared(ctx context.Context, prev *types100.Result) error {
	links, _, err := o.Driver.(bowline.Sharer).Shared(ctx, o.network(nil))
	if err != nil {
		return err
	}
	var ds []bowline.Difference
	for _, i := range prev.Interfaces {
		if i.Sandbox != o.Netns {
			continue
		}
		at := slices.IndexFunc(links, func(l bowline.SharedLink) bool { return l.Name == i.Name })
		for _, want := range leaseOf(prev, i.Name).addrs() {
			if at < 0 || !slices.Contains(links[at].Addrs, want) {
				ds = append(ds, bowline.Difference{Place: "host's link " + i.Name, Key: "address", Want: want.String()})
			}
		}
	}
	return bowline.FirstDifference(fmt.Sprintf("network %q, container %s", o.Config.Name, o.ContainerID), ds)
}
