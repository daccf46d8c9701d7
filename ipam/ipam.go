// Package ipam decides which address an endpoint gets and remembers it.
//
// What may be handed out is a [Config], which is pure: ranges, what they leave
// out, how long a released address rests. What has been handed out is a
// [Store], one per network, whose cost does not grow with what it holds.
//
// The one rule: an address is taken if and only if there is a symbolic link of
// its name, pointing to its owner, or saying until when it is in quarantine for
// somebody else uses it. Making that link is atomic and fails if there is one;
// everything else in a store is an index that can be rebuilt.
package ipam

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/bowline-net/bowline"
)

// An Owner is what addresses belong to: one interface of one container.
type Owner struct {
	Container string
	IfName    string // may be empty
}

func (o Owner) String() string { return o.Container + "/" + o.IfName }

// ownerOf is the inverse of String.
func ownerOf(s string) Owner {
	c, i, _ := strings.Cut(s, "/")
	return Owner{c, i}
}

func (o Owner) validate() error {
	if o.Container == "" || len(o.String()) > 1000 || strings.ContainsAny(o.Container+o.IfName, "/\x00") {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("owner %q: want a container ID and an interface name without slash, together below 1000 bytes", o))
	}
	return nil
}

// A Request says who wants addresses, and which if it matters.
type Request struct {
	Owner Owner
	// Name is what people call the container. The same name gets the address
	// that it had before, if that is free. May be empty.
	Name string
	// Want are the addresses to take, at most one of each set of ranges; the
	// other sets give any. Repeated addresses count once.
	Want []netip.Addr
	// Sandbox is the path of the owner's namespace. When that is gone the
	// addresses may be reclaimed. Empty: they stay until released, or reboot.
	Sandbox string
}

// An Allocation is one address taken.
type Allocation struct {
	Addr    netip.Prefix // with the prefix length of the range's subnet
	Gateway netip.Addr   // of the range; zero if it has none
	Owner   Owner
}
