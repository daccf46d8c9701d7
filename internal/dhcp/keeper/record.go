package keeper

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/dhcp/wire"
	"github.com/bowline-net/bowline/internal/state"
)

// A record is what is kept of a lease. It is there before the link has any
// address of it, and is written anew before the link's address changes.
type record struct {
	dhcp.Request
	BootID   string `json:"bootID"`
	NetnsIno uint64 `json:"netnsIno,omitempty"` // of the sandbox; 0: not known yet
	MAC      string `json:"mac"`
	// Uplink is the host's link behind this one: what is left to reach the
	// server through when the link is gone.
	Uplink string `json:"uplink,omitempty"`
	// Client is the client's identifier with its type, and by hash its DUID.
	Client []byte    `json:"client"`
	Four   *bound4   `json:"four,omitempty"`
	Six    *bound6   `json:"six,omitempty"`
	Router *router   `json:"router,omitempty"`
	Left   *lastWill `json:"left,omitempty"`
}

type bound4 struct {
	wire.Binding4
	Since instant `json:"since"`
}

type bound6 struct {
	wire.Binding6
	Since instant `json:"since"`
}

// A router is what IPv6 was found by, and the addresses that the kernel made.
type router struct {
	wire.Router
	Auto []netip.Prefix `json:"auto,omitempty"`
}

// A lastWill says that the endpoint is gone, and until when another may have
// its lease.
type lastWill struct {
	Until instant `json:"until"`
}

// An instant is a time of the clock that starts at boot, does not stop when the
// machine sleeps, and that nobody can set, in nanoseconds.
type instant int64

func now() instant {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("read CLOCK_BOOTTIME: " + err.Error()) // every kernel has it since 2.6.39
	}
	return instant(t.Nano())
}

func (i instant) add(d time.Duration) instant { return i + instant(d) }
func (i instant) sub(j instant) time.Duration { return time.Duration(i - j) }

// name returns the record's in its store.
func name(k dhcp.Key) string { return state.Key(k.Network) + "/" + state.Key(k.ID) }

// clientID returns what servers are to know the client by: what was asked for,
// or else the name or ID of whose it is.
func clientID(r dhcp.Request, whose string) []byte {
	if r.ClientID != nil {
		return r.ClientID
	}
	text := r.Network + "/" + whose
	if r.IfName != "" && whose != r.ID {
		text += "/" + r.IfName
	}
	const most = 254
	if len(text) > most {
		sum := sha256.Sum256([]byte(text))
		text = text[:most-len(sum)] + string(sum[:])
	}
	return append([]byte{0}, text...)
}

func (r *record) four(l wire.Link) wire.Four {
	f := wire.Four{Link: l, ClientID: r.Client, Hostname: r.Hostname, Ask: r.Ask, Probe: r.Probe}
	for _, o := range r.Send {
		f.Send = append(f.Send, wire.Option(o.Code, o.Value))
	}
	return f
}

func (r *record) six(l wire.Link) wire.Six {
	sum := sha256.Sum256(r.Client)
	return wire.Six{Link: l, ID: [16]byte(sum[:])}
}

// lease returns what the link has by the record, but for what is the kernel's.
func (r *record) lease() dhcp.Lease {
	var l dhcp.Lease
	if r.Four != nil {
		r.lease4(&l)
	}
	if r.Router != nil || r.Six != nil {
		r.lease6(&l)
	}
	for i := range l.Routes {
		l.Routes[i].Priority = r.Priority
	}
	return l
}

func (r *record) lease4(l *dhcp.Lease) {
	b := r.Four
	a := dhcp.Addr{Prefix: b.Addr}
	if len(b.Routers) > 0 && !r.NoGateway {
		a.Gateway = b.Routers[0]
	}
	for _, route := range b.Routes {
		if route.Dst.Bits() > 0 || !r.NoGateway {
			l.Routes = append(l.Routes, route)
		}
	}
	// RFC 3442: who sends classless routes means them to stand for the router.
	if a.Gateway.IsValid() && !b.Classless {
		l.Routes = append(l.Routes, bowline.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: a.Gateway})
	}
	l.Addrs = append(l.Addrs, a)
	l.Nameservers, l.Domain, l.Search = slices.Clone(b.Nameservers), b.Domain, slices.Clone(b.Search)
}

func (r *record) lease6(l *dhcp.Lease) {
	var gateway netip.Addr
	var auto []netip.Prefix
	if r.Router != nil {
		auto = r.Router.Auto
		if r.Router.Default && !r.NoGateway {
			gateway = r.Router.Addr
		}
		l.Nameservers = append(l.Nameservers, r.Router.Nameservers...)
		l.Search = append(l.Search, r.Router.Search...)
	}
	if r.Six != nil {
		l.Addrs = append(l.Addrs, dhcp.Addr{Prefix: r.prefix6(r.Six.Addr), Gateway: gateway})
		for _, n := range r.Six.Nameservers {
			if !slices.Contains(l.Nameservers, n) {
				l.Nameservers = append(l.Nameservers, n)
			}
		}
		for _, s := range r.Six.Search {
			if !slices.Contains(l.Search, s) {
				l.Search = append(l.Search, s)
			}
		}
	}
	for _, p := range auto {
		l.Addrs = append(l.Addrs, dhcp.Addr{Prefix: p, Gateway: gateway})
	}
	// The way out is the kernel's: it follows what routers say, for as long as
	// they say so. A route of ours would outlive them.
}

// prefix6 returns the address with the length of the router's prefix that it is
// of: DHCPv6 gives addresses without one.
func (r *record) prefix6(a netip.Addr) netip.Prefix {
	if r.Router != nil {
		for _, p := range r.Router.Prefixes {
			if p.OnLink && p.Net.Contains(a) {
				return netip.PrefixFrom(a, p.Net.Bits())
			}
		}
	}
	return netip.PrefixFrom(a, 128)
}
