package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

// DeleteEndpoint implements [bowline.Driver]. Without the sandbox its links are
// searched for in all that the host knows of; with it they are found at once.
func (d *driver) DeleteEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	var errs []error
	if o, err := parseOptions(n); err != nil || o.hostAccess { // wrong options must not keep it there
		errs = append(errs, d.expel(ctx, n, e))
	}
	if e.Sandbox == nil {
		return errors.Join(append(errs, d.deleteAnywhere(ctx, n, e))...)
	}
	in, done, err := d.in(e)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer done()
	if len(e.Policy) > 0 {
		errs = append(errs, d.inside(e, in, "").EndPolicy(ctx, n.ID, e.ID))
	}
	mine := own(n, e)
	errs = append(errs, in.DeleteIf(ctx, func(l link.Info) bool { return mine(link.Seen{Info: l}) }, innerName(n, e), endpoint.IFB(n.ID, e.ID)))
	return errors.Join(errs...)
}

// own tells the endpoint's links from those of somebody else that have their
// names. Links get their alias after birth: if a kill came before it, the MAC
// says whose it is, and of an ifb the kind.
func own(n bowline.NetworkConfig, e bowline.EndpointSpec) func(link.Seen) bool {
	mac, err := endpoint.MAC(n, e)
	if err != nil {
		mac = bowline.MAC(n.ID, e.ID)
	}
	return func(l link.Seen) bool {
		switch {
		case l.Kind == "macvlan" && l.Alias == "":
			return bytes.Equal(l.MAC, mac)
		case l.Kind == "macvlan":
			return l.Alias == endpoint.Alias(n, e.ID)
		}
		return endpoint.OwnIFB(l.Info)
	}
}

// deleteAnywhere removes the endpoint's links wherever they are.
func (d *driver) deleteAnywhere(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	mine, ifb := own(n, e), endpoint.IFB(n.ID, e.ID)
	return d.deleteLinks(ctx, func(l link.Elsewhere) bool {
		return mine(l.Seen) && (l.Kind == "macvlan" || l.Name == ifb)
	})
}

// deleteLinks removes the macvlans and ifbs of all namespaces that the host knows
// of and that which takes.
func (d *driver) deleteLinks(ctx context.Context, which func(link.Elsewhere) bool) error {
	var errs []error
	for _, kind := range []string{"macvlan", "ifb"} {
		all, err := d.host.Everywhere(ctx, kind)
		errs = append(errs, err)
		for _, l := range all {
			if which(l) {
				errs = append(errs, d.host.DeleteElsewhere(ctx, l))
			}
		}
	}
	return errors.Join(errs...)
}

// DeleteNetwork implements [bowline.Driver]. A parent that we made goes when
// nothing is on it any more.
func (d *driver) DeleteNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	all, err := d.host.Everywhere(ctx, "macvlan")
	if err != nil {
		return err
	}
	for _, l := range all {
		if strings.HasPrefix(l.Alias, endpoint.Prefix(n)) {
			return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: endpoints are still attached, %s for one", n.ID, l.Alias))
		}
	}
	if err := d.eachShim(ctx, n, func(link.Info) error { return nil }); err != nil {
		return err
	}
	if o.linkInContainer || o.parent == "" {
		return nil
	}
	parent, err := d.host.See(ctx, o.parent)
	if gone(err) {
		return nil
	}
	if err != nil || !ourParent(parent) || used(parent, all) {
		return err
	}
	return d.host.Delete(ctx, parent.Name)
}

// ourParent reports whether we made the parent, a link in a VLAN.
func ourParent(l link.Seen) bool {
	return l.Kind == "vlan" && strings.HasPrefix(l.Alias, endpoint.NetworkMark)
}

// used reports whether one of the macvlans is on the host's link. A macvlan tells
// its parent's namespace by an ID that its own has for it, if it is another one.
func used(parent link.Seen, macvlans []link.Elsewhere) bool {
	return slices.ContainsFunc(macvlans, func(l link.Elsewhere) bool { return onHost(l) && l.Parent == parent.Index && !shim(l) })
}

// onHost reports whether the macvlan's parent is a link of the host.
func onHost(l link.Elsewhere) bool { return (l.NS == link.Here) == (l.Peer < 0) }

// shim reports whether the macvlan is the host's own on a network's parent.
func shim(l link.Elsewhere) bool {
	return l.NS == link.Here && strings.HasPrefix(l.Alias, endpoint.NetworkMark)
}

// Prune implements [bowline.Collector].
func (d *driver) Prune(ctx context.Context, n bowline.NetworkConfig, keep []string) error {
	kept, keptIFB := map[string]bool{}, map[string]bool{}
	for _, id := range keep {
		kept[endpoint.Alias(n, id)], keptIFB[endpoint.IFB(n.ID, id)] = true, true
	}
	err := d.deleteLinks(ctx, func(l link.Elsewhere) bool {
		if l.Kind == "ifb" {
			return strings.HasPrefix(l.Alias, endpoint.LimitsPrefix(n)) && !keptIFB[l.Name]
		}
		return strings.HasPrefix(l.Alias, endpoint.Prefix(n)) && !kept[l.Alias]
	})
	return errors.Join(err, d.pruneShims(ctx, n, keep, kept))
}

// pruneShims ends the host access of endpoints that are not to be kept, and of
// those whose links are gone. A link that is not to be kept may still be seen
// while the kernel takes its namespace down: it keeps nothing.
func (d *driver) pruneShims(ctx context.Context, n bowline.NetworkConfig, keep []string, kept map[string]bool) error {
	left, err := d.host.Everywhere(ctx, "macvlan")
	if err != nil {
		return err
	}
	err = d.eachShim(ctx, n, func(shim link.Info) error {
		peers, err := d.host.Peers(ctx, shim.Index)
		errs := []error{err, d.rules.ExpelOthersFromShim(ctx, n.ID, keep)}
		for a, p := range peers {
			if !slices.ContainsFunc(left, func(l link.Elsewhere) bool { return kept[l.Alias] && bytes.Equal(l.MAC, p.MAC) }) {
				errs = append(errs, d.host.DeletePeer(ctx, shim.Index, a))
			}
		}
		return errors.Join(errs...)
	})
	return errors.Join(err, d.rules.ExpelOthersFromShim(ctx, n.ID, keep), d.deleteLost(ctx))
}

// Networks implements [bowline.Collector]: parents that we made and shims, where
// nobody is.
func (d *driver) Networks(ctx context.Context) ([]bowline.NetworkConfig, error) {
	macvlans, err := d.host.Everywhere(ctx, "macvlan")
	if err != nil {
		return nil, err
	}
	links, err := d.host.SeeAll(ctx)
	if err != nil {
		return nil, err
	}
	var ns []bowline.NetworkConfig
	for _, l := range links {
		id, ours := strings.CutPrefix(l.Alias, endpoint.NetworkMark)
		if !ours {
			continue
		}
		n := bowline.NetworkConfig{ID: id, Options: map[string]string{}}
		switch {
		case ourParent(l) && !used(l, macvlans):
			n.Options["parent"] = l.Name
		case l.Kind == "macvlan" && !slices.ContainsFunc(macvlans, func(m link.Elsewhere) bool { return strings.HasPrefix(m.Alias, endpoint.Prefix(n)) }):
		default:
			continue
		}
		ns = append(ns, n)
	}
	return ns, nil
}
