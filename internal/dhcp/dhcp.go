// Package dhcp asks bowline-dhcp, the daemon that keeps addresses of the LAN's
// DHCP server, over its unix socket.
//
// The daemon answers when the lease is on record; from then on it renews it,
// whatever becomes of the caller, until it is released or its sandbox is gone.
package dhcp

import (
	"net/netip"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// SocketPath returns where the daemon listens unless it is told otherwise:
// /run/bowline/dhcp.sock, or below $BOWLINE_RUN_DIR.
func SocketPath() string { return state.Run("dhcp.sock").Dir }

// A Key names the endpoint that a lease is for.
type Key struct {
	Network string `json:"network"`          // its ID
	ID      string `json:"id"`               // the endpoint's, such as CONTAINER/eth0
	IfName  string `json:"ifname,omitempty"` // the link's name in the sandbox; empty: it is found by its MAC
}

// What a Request may say of IPv6.
const (
	IPv6Auto  = "auto"  // as the router says: DHCPv6, SLAAC, or none if there is no router
	IPv6DHCP  = "dhcp"  // an address by DHCPv6
	IPv6SLAAC = "slaac" // addresses that the kernel makes of the router's prefixes
	IPv6Off   = "off"
)

// An Option is one of DHCPv4 (RFC 2132).
type Option struct {
	Code  uint8  `json:"code"`
	Value []byte `json:"value"`
}

// A Request says which link is to get addresses, and how they are asked for.
type Request struct {
	Key
	// Sandbox is the path of the namespace that the link is in; empty: that
	// of the daemon.
	Sandbox string `json:"sandbox,omitempty"`
	Link    string `json:"link"` // its name there
	IPv4    bool   `json:"ipv4,omitempty"`
	IPv6    string `json:"ipv6"` // one of the words above
	// Name is what people call the container: servers are told it, and it
	// gets the same address again. Empty: the ID stands for it.
	Name     string `json:"name,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	ClientID []byte `json:"clientID,omitempty"` // with its type; nil: one made of Name or ID
	// Send are options for the server, Ask are codes of those that are asked
	// for beside what is asked for anyway.
	Send []Option `json:"send,omitempty"`
	Ask  []uint8  `json:"ask,omitempty"`
	// Priority is that of the routes; 0: the kernel's.
	Priority  int  `json:"priority,omitempty"`
	NoGateway bool `json:"noGateway,omitempty"` // no gateway and no default route
	// Probe asks the LAN whether somebody has the address before it is used.
	Probe bool `json:"probe,omitempty"`
	// Foreign is set if another one than Bowline gives the link its addresses:
	// such programs fail on one that the kernel has made.
	Foreign bool `json:"foreign,omitempty"`
	// Timeout bounds the wait for a server; 0: 20 s.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Mark tells endpoints apart that may follow each other, see [Client.Adopt].
	Mark string `json:"mark,omitempty"`
}

// A Lease is what a link has been given.
type Lease struct {
	Addrs       []Addr          `json:"addrs"`
	Routes      []bowline.Route `json:"routes,omitempty"` // of IPv4, the default ones among them; IPv6 ones are the kernel's
	Nameservers []netip.Addr    `json:"nameservers,omitempty"`
	Domain      string          `json:"domain,omitempty"`
	Search      []string        `json:"search,omitempty"`
}

// An Addr is an address with the length of its prefix, and its gateway.
type Addr struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// Prefixes returns the addresses.
func (l Lease) Prefixes() []netip.Prefix {
	var ps []netip.Prefix
	for _, a := range l.Addrs {
		ps = append(ps, a.Prefix)
	}
	return ps
}
