package cni

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// RoutesOf returns the routes that the link of the recorded endpoint has, whose
// attachment is a.
func RoutesOf(r state.Endpoint, a bowline.Attachment) []bowline.Route {
	l := lease{routes: slices.Clone(r.Routes)}
	for _, addr := range r.Addrs {
		ip := leaseIP{addr: addr}
		for _, p := range r.Pools {
			if p.Prefix == addr.Masked() {
				ip.gateway = p.Gateway
				break
			}
		}
		l.ips = append(l.ips, ip)
	}
	l.applyGateways(a)
	return l.routes
}

// DefaultRoutes returns those through the attachment's gateways.
func DefaultRoutes(a bowline.Attachment) []bowline.Route {
	var l lease
	l.applyGateways(bowline.Attachment{Gateways: a.Gateways})
	return l.routes
}

// Dress gives the attachment's link, which is in the sandbox, what differs from
// its addresses, routes and tuning, and brings it up. It does not wait for
// duplicate address detection.
func Dress(ctx context.Context, sandbox *netns.Handle, a bowline.Attachment, routes []bowline.Route) error {
	if err := dress(ctx, sandbox, a, routes, false); err != nil || a.Tuning == (bowline.Tuning{}) {
		return err
	}
	return inSandbox(ctx, sandbox, func(h *link.Handle) error { return h.SetTuning(ctx, a.Link, a.Tuning) })
}

// DiffSandbox returns how the attachment's link, which is in the sandbox,
// differs from what ADD left. Changes that later plugins of the chain may make
// are tolerated: more addresses and routes, another MAC, another metric.
func DiffSandbox(ctx context.Context, sandbox *netns.Handle, a bowline.Attachment, routes []bowline.Route) (found []bowline.Difference, err error) {
	err = netns.Do(sandbox, func() error {
		h, err := link.OpenHere()
		if err != nil {
			return err
		}
		defer h.Close()
		found, err = diffDress(ctx, h, a, routes)
		return err
	})
	return found, err
}

func diffDress(ctx context.Context, h *link.Handle, a bowline.Attachment, routes []bowline.Route) (found []bowline.Difference, err error) {
	if a.Link == "" {
		return nil, nil
	}
	add := func(place, key, have, want string) {
		found = append(found, bowline.Difference{Place: place, Key: key, Have: have, Want: want})
	}
	place := linkPlace(a)
	l, err := h.Get(ctx, a.Link)
	if errors.Is(err, bowline.ErrUnknown) {
		add("sandbox", "link "+a.Link, "", "one with the MAC "+a.MAC.String())
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(diffSysctls(ctx, h, a, add), diffTuning(ctx, h, a, add)); err != nil || a.Down {
		return found, err
	}
	if !l.Up {
		add(place, "state", "down", "up")
	}
	have, err := h.Addrs(ctx, l.Index)
	if err != nil {
		return nil, err
	}
	for _, want := range a.Addrs {
		if !slices.Contains(have, want) {
			add(place, "address", "", want.String())
		}
	}
	for _, want := range routes {
		ok, err := hasRoute(ctx, h, l, want)
		if err != nil {
			return nil, err
		}
		if !ok {
			add(place, "route", "", routeText(want))
		}
	}
	return found, nil
}

// diffSysctls compares what [setSysctls] sets, as far as it matters afterwards.
func diffSysctls(ctx context.Context, h *link.Handle, a bowline.Attachment, add func(place, key, have, want string)) error {
	want := map[string]string{}
	if slices.ContainsFunc(a.Addrs, is6) {
		want["net/ipv6/conf/"+a.Link+"/disable_ipv6"] = "0"
	}
	for k, v := range a.Sysctls {
		want[link.SysctlPath(k, a.Link)] = v
	}
	for k, v := range want {
		have, err := h.Sysctl(ctx, k)
		if err != nil {
			return err
		}
		if !sameValue(have, v) {
			add("sandbox", k, have, v)
		}
	}
	return nil
}

// diffTuning compares how the link is set, if anything was asked for.
func diffTuning(ctx context.Context, h *link.Handle, a bowline.Attachment, add func(place, key, have, want string)) error {
	want := a.Tuning
	if want == (bowline.Tuning{}) {
		return nil
	}
	have, err := h.Tuning(ctx, a.Link)
	if err != nil {
		return err
	}
	place := linkPlace(a)
	if want.Promisc != nil && *have.Promisc != *want.Promisc {
		add(place, "promisc", strconv.FormatBool(*have.Promisc), strconv.FormatBool(*want.Promisc))
	}
	if want.AllMulti != nil && *have.AllMulti != *want.AllMulti {
		add(place, "allmulti", strconv.FormatBool(*have.AllMulti), strconv.FormatBool(*want.AllMulti))
	}
	if want.TxQLen != nil && *have.TxQLen != *want.TxQLen {
		add(place, "txQLen", strconv.Itoa(*have.TxQLen), strconv.Itoa(*want.TxQLen))
	}
	return nil
}

func linkPlace(a bowline.Attachment) string { return "link " + a.Link + " of the sandbox" }

// hasRoute reports whether the route is there. Of two attachments with a default
// route the first one's stays, so another link may have it.
func hasRoute(ctx context.Context, h *link.Handle, l link.Info, want bowline.Route) (bool, error) {
	all, err := h.Routes(ctx, want.Dst.Addr().Is6())
	return slices.ContainsFunc(all, func(e link.Entry) bool {
		return (e.Index != l.Index || e.Via == want.Via) && e.Dst.Masked() == want.Dst.Masked() && (want.Table == nil || *want.Table == *e.Table)
	}), err
}

func routeText(r bowline.Route) string {
	if r.Via.IsValid() {
		return r.Dst.String() + " via " + r.Via.String()
	}
	return r.Dst.String()
}
