package cni

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
)

// dadTimeout bounds the wait for duplicate address detection: one probe and
// its random delay take 2 s at most (RFC 4862, 5.4).
const dadTimeout = 10 * time.Second

// dress gives the link inside the sandbox its addresses and routes and brings
// it up. It needs no undoing: all of it ends with the link.
//
// The order matters. IPv4 addresses come first, for the link announces them
// when it comes up (arp_notify), unless it is up because they were probed; IPv6
// ones need a link that is up. An address that a container had before may be in
// neighbours' caches with another MAC.
func dress(ctx context.Context, sandbox *netns.Handle, a bowline.Attachment, routes []bowline.Route, waits bool) error {
	if a.Link == "" {
		return nil
	}
	return inSandbox(ctx, sandbox, func(h *link.Handle) error {
		l, err := h.Get(ctx, a.Link)
		if err != nil {
			return err
		}
		v6 := slices.ContainsFunc(a.Addrs, is6)
		if err := setSysctls(ctx, h, a, v6); err != nil || a.Down {
			return err
		}
		if err := addAddrs(ctx, h, l.Index, a, false); err != nil {
			return err
		}
		if err := h.Set(ctx, a.Link, link.Change{Up: true, ARPNotify: !a.Quiet && slices.ContainsFunc(a.Addrs, is4)}); err != nil {
			return err
		}
		again, err := unheard(ctx, h, a.Link)
		if err != nil {
			return err
		}
		if err := addAddrs(ctx, h, l.Index, a, true); err != nil {
			return err
		}
		if v6 && a.DAD && waits {
			if err := h.WaitDAD(ctx, l.Index, dadTimeout); err != nil {
				return err
			}
		}
		for _, r := range routes {
			if _, err := h.EnsureRoute(ctx, l.Index, r); err != nil {
				return err
			}
		}
		return announce(ctx, h, l, a, again)
	})
}

// unheard reports whether a bridge at the other end of the link, which came up
// just now, may not have let through what the kernel announced then: it keeps the
// port closed from when the kernel saw that the link was down until it sees that
// it is up. As long as it has not looked at all, the port is open.
func unheard(ctx context.Context, h *link.Handle, name string) (bool, error) {
	l, err := h.Get(ctx, name)
	return l.Kind == "veth" && l.Judged, err
}

// lateCarrier bounds the wait for the kernel to see that a link is up.
const lateCarrier = time.Second

// announceAgain has the kernel announce the IPv4 addresses once more (arp_notify),
// which it does when the MAC of a link is set. A socket for it would cost a grace
// period at its end.
func announceAgain(ctx context.Context, h *link.Handle, l link.Info) error {
	inner, cancel := context.WithTimeout(ctx, lateCarrier)
	defer cancel()
	err := h.WaitCarrier(inner, l.Name)
	if err != nil && inner.Err() == nil {
		return err
	}
	return h.Set(ctx, l.Name, link.Change{MAC: l.MAC})
}

// announce tells neighbours what the kernel does not, or what it is to tell again
// when the link can be heard. l is what the link was before it came up with its
// addresses.
func announce(ctx context.Context, h *link.Handle, l link.Info, a bowline.Attachment, again bool) error {
	if a.Quiet {
		return nil
	}
	if again && !l.Up && slices.ContainsFunc(a.Addrs, is4) {
		if err := announceAgain(ctx, h, l); err != nil {
			return err
		}
	}
	var v4, v6 []netip.Addr
	for _, p := range a.Addrs {
		if is6(p) {
			v6 = append(v6, p.Addr())
		} else if l.Up {
			v4 = append(v4, p.Addr())
		}
	}
	if len(v4) > 0 {
		if err := h.AnnounceIPv4(ctx, l, v4...); err != nil {
			return err
		}
	}
	if len(v6) > 0 {
		return h.AnnounceIPv6(ctx, l, v6...)
	}
	return nil
}

func is4(p netip.Prefix) bool { return p.Addr().Is4() }
func is6(p netip.Prefix) bool { return p.Addr().Is6() }

func addAddrs(ctx context.Context, h *link.Handle, index int, a bowline.Attachment, v6 bool) error {
	for _, p := range a.Addrs {
		if is6(p) == v6 {
			if _, err := h.EnsureAddr(ctx, index, link.Addr{Prefix: p, DAD: a.DAD}); err != nil {
				return err
			}
		}
	}
	return nil
}

// setSysctls applies what the driver asks for and what IPv6 needs: enabled, for
// some engines disable it in new sandboxes, and without duplicate address
// detection, which holds addresses back for one to two seconds (RFC 4862, 5.4),
// unless it is asked for.
func setSysctls(ctx context.Context, h *link.Handle, a bowline.Attachment, v6 bool) error {
	if v6 {
		conf := "net/ipv6/conf/" + a.Link + "/"
		dad := "0"
		if a.DAD {
			dad = "1"
		}
		for _, kv := range [][2]string{{"disable_ipv6", "0"}, {"accept_dad", dad}} {
			if _, err := h.SetSysctl(ctx, conf+kv[0], kv[1]); err != nil {
				return err
			}
		}
	}
	for _, k := range inOrder(a.Sysctls) {
		if _, err := h.SetSysctl(ctx, link.SysctlPath(k, a.Link), a.Sysctls[k]); err != nil {
			return err
		}
	}
	return nil
}
