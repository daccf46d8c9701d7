package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// del detaches the container. It needs neither the namespace nor a previous
// result, goes on after errors, and succeeds if there is nothing. The link goes
// before its addresses are released: nobody may get an address that still
// answers. The record goes last, and only if all else did; nobody may repair
// meanwhile what it still stands for.
func (o op) del(ctx context.Context) error {
	defer o.endpoints.Hold(o.Face.Name, o.Config.Name, o.ID())()
	r, rerr := o.endpoints.Get(ctx, o.Face.Name, o.Config.Name, o.ID())
	n, e := o.network(nil), bowline.EndpointSpec{ID: o.ID(), IfName: o.IfName}
	var damaged *state.DamagedError
	switch {
	case rerr == nil: // as it was attached
		e = r.Spec()
		if r.Options != nil {
			n = r.Config()
		}
	case errors.As(rerr, &damaged), errors.Is(rerr, fs.ErrNotExist):
		if prev, err := o.prevResult(); err == nil && prev != nil {
			e.Addrs = addrsOf(prev)
		}
	default:
		return rerr
	}
	ipam, err := o.ipamForDelete(r)
	if err != nil {
		return err
	}
	if sandbox := o.oldSandbox(ctx, r); sandbox != nil {
		defer sandbox.Close()
		e.Sandbox = sandbox
	}
	err = errors.Join(o.Driver.DeleteEndpoint(ctx, n, e), ipam.release(ctx))
	if err != nil {
		return err
	}
	o.restoreIn(ctx, o.Netns, r)
	if damaged != nil {
		// It was set aside; all that it could have stood for has been removed.
		logDamaged(ctx, damaged)
	}
	return o.endpoints.Delete(ctx, o.Face.Name, o.Config.Name, o.ID())
}

// oldSandbox returns the namespace that the recorded attachment is in, nil if it
// is gone. Without a record it is the one that the engine names.
func (o op) oldSandbox(ctx context.Context, r state.Endpoint) *netns.Handle {
	var h *netns.Handle
	switch path := first(o.Netns, r.Sandbox); {
	case r.NetnsIno != 0 && r.BootID == state.BootID():
		h = netns.OpenIno(path, r.NetnsIno)
	case r.NetnsIno == 0 && path != "":
		h, _ = netns.Open(path)
	}
	if d := dryOf(ctx); d != nil && h != nil {
		d.Space("sandbox", h, false)
	}
	return h
}

// check compares everything that this plugin made with what it was.
func (o op) check(ctx context.Context) error {
	prev, err := o.prevResult()
	if err != nil {
		return err
	}
	if prev == nil {
		return invalid("network %q: CHECK needs prevResult in the configuration", o.Config.Name)
	}
	if o.sharesHost() {
		return o.checkShared(ctx, prev)
	}
	sandbox, err := netns.Open(o.Netns)
	if err != nil {
		return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("CNI_NETNS=%q: %v", o.Netns, err))
	}
	defer sandbox.Close()
	r, err := o.endpoints.Get(ctx, o.Face.Name, o.Config.Name, o.ID())
	if errors.Is(err, fs.ErrNotExist) {
		return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("network %q: there is no record of container %s as %s", o.Config.Name, o.ContainerID, o.IfName))
	}
	if err != nil {
		return err
	}
	e := r.Spec() // as it was made, whatever was asked for since
	e.Sandbox = sandbox
	ipam, err := o.ipam()
	if err != nil {
		return err
	}
	lease := leaseOf(prev, o.IfName)
	pools, routes := lease.pools(), lease.routes
	if r.IPAM == ownDHCP { // which changes with the LAN, and the record with it
		pools, routes = r.Pools, r.Routes
	}
	if err := o.checkAttachment(ctx, sandbox, o.network(pools), e, routes); err != nil {
		return err
	}
	return ipam.check(ctx, r.Addrs)
}

// checkAttachment returns the first difference, the sandbox's before the host's.
func (o op) checkAttachment(ctx context.Context, sandbox *netns.Handle, n bowline.NetworkConfig, e bowline.EndpointSpec, routes []bowline.Route) error {
	a := bowline.Attachment{Link: o.IfName, MAC: e.MAC, Addrs: e.Addrs, Down: true} // up or not is not known
	var host []bowline.Difference
	if in, ok := o.Driver.(bowline.Inspector); ok {
		for _, i := range in.Diff(ctx, []bowline.Place{{Network: n}, {Network: n, Endpoint: e}}) {
			if i.Err != nil {
				return i.Err
			}
			a, host = i.Attachment, append(host, i.Found...)
		}
	} else if err := o.Driver.CheckEndpoint(ctx, n, e); err != nil {
		return err
	}
	found, err := DiffSandbox(ctx, sandbox, a, routes)
	if err != nil {
		return err
	}
	return bowline.FirstDifference(fmt.Sprintf("network %q, container %s as %s", n.ID, o.ContainerID, o.IfName), append(found, host...))
}

// gc removes every attachment of the network that is not listed as valid. It
// goes on after errors and reports all.
func (o op) gc(ctx context.Context) error {
	if o.Valid == nil {
		return nil // absent is not empty: libcni leaves the key out when it does not know
	}
	keep := map[string]bool{}
	for _, a := range o.Valid {
		keep[a.ContainerID+"/"+a.IfName] = true
	}
	records, err := o.endpoints.OfNetwork(ctx, o.Face.Name, o.Config.Name)
	errs := []error{err}
	var ids []string
	for id := range keep {
		ids = append(ids, id)
	}
	for _, r := range records {
		if !keep[r.ID] {
			one := o
			one.ContainerID, one.IfName = r.Container, r.IfName
			one.Netns, one.PrevResult = "", nil
			errs = append(errs, one.del(ctx))
		}
	}
	if c, ok := o.Driver.(bowline.Collector); ok {
		errs = append(errs, c.Prune(ctx, o.network(nil), ids))
	}
	ipam, err := o.ipamForDelete(state.Endpoint{})
	if err == nil {
		err = ipam.gc(ctx, keep)
	}
	// A runtime must not run GC beside ADD or DEL of the same network.
	errs = append(errs, err, o.endpoints.Sweep(o.Face.Name, o.Config.Name))
	if len(keep) == 0 { // nobody is left: the network itself goes too
		errs = append(errs, o.Driver.DeleteNetwork(ctx, o.network(o.pools())))
	}
	return errors.Join(errs...)
}

// status says whether an ADD could be served.
func (o op) status(ctx context.Context) error {
	if err := o.validate(o.network(nil), bowline.EndpointSpec{ID: "status"}); err != nil {
		return err
	}
	if s, ok := o.Driver.(bowline.StatusReporter); ok {
		if err := s.Status(ctx, o.network(nil)); err != nil {
			return err
		}
	}
	ipam, err := o.ipam()
	if err != nil {
		return err
	}
	return ipam.status(ctx)
}
