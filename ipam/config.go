package ipam

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/bowline-net/bowline"
)

// A Range is a run of addresses of one subnet.
type Range struct {
	Subnet  netip.Prefix // masked; at most /30 or /126
	Start   netip.Addr   // first; zero: the one after the network address
	End     netip.Addr   // last; zero: the last, for IPv4 the one before the broadcast address
	Gateway netip.Addr   // never handed out; zero: none
}

// A Set is a list of ranges of one family that are used as one: an owner gets
// one address of each set, from the first range on.
type Set []Range

// A Config says which addresses a network hands out.
//
// Never handed out are the network address of a subnet, the broadcast address
// of an IPv4 subnet, gateways, and what Exclude covers.
type Config struct {
	Sets    []Set
	Exclude []netip.Prefix
	// Cooldown is how long an address rests after its release. A resting
	// address is handed out only if it is asked for, by itself or by the name
	// that had it, or if nothing else is free; then the longest resting first.
	Cooldown time.Duration
	// Quarantine is how long an address that somebody else uses is handed out to
	// nobody; then it is tried again. Zero: [DefaultQuarantine].
	Quarantine time.Duration
}

// DefaultCooldown is for faces whose user says nothing. It outlasts stale ARP
// and neighbour entries and TCP's longest usual TIME-WAIT.
const DefaultCooldown = 60 * time.Second

// DefaultQuarantine is for faces whose user says nothing. Somebody who has an
// address by mistake keeps it for longer than a container takes to be asked for again.
const DefaultQuarantine = 10 * time.Minute

// Validate returns nil if c can be used, or an error that wraps
// [bowline.ErrInvalid] and names the first key that is wrong.
func (c Config) Validate() error {
	_, err := c.spaces()
	return err
}

// spaces returns what each set can hand out.
func (c Config) spaces() ([]space, error) {
	if len(c.Sets) == 0 {
		return nil, wrong("ranges", "[]", "at least one range such as [[{\"subnet\": \"10.1.0.0/24\"}]]")
	}
	if c.Cooldown < 0 {
		return nil, wrong("cooldown", c.Cooldown.String(), "a time of 0 seconds or more")
	}
	var all []placed
	spaces := make([]space, 0, len(c.Sets))
	for i, set := range c.Sets {
		place := fmt.Sprintf("ranges[%d]", i)
		if len(set) == 0 {
			return nil, wrong(place, "[]", "at least one range such as [{\"subnet\": \"10.1.0.0/24\"}]")
		}
		var s space
		for j, r := range set {
			at := fmt.Sprintf("%s[%d]", place, j)
			if err := r.validate(at + "."); err != nil {
				return nil, err
			}
			if r.Subnet.Addr().Is4() != set[0].Subnet.Addr().Is4() {
				return nil, wrong(at+".subnet", r.Subnet.String(), "the family of "+set[0].Subnet.String()+", which is of the same set")
			}
			p := placed{at, r.bounds()}
			for _, other := range all {
				if p.overlaps(other.span) {
					return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: %s overlaps %s of %s; want each address in one range only", at, p.span, other.span, other.place))
				}
			}
			all = append(all, p)
			s.spans = append(s.spans, r.usable(c.Exclude)...)
		}
		if len(s.spans) == 0 {
			return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: %s: nothing is left without the network, broadcast, gateway and excluded addresses; want at least one address", place, all[len(all)-1].span))
		}
		spaces = append(spaces, s)
	}
	return spaces, nil
}

type placed struct {
	place string
	span
}

// validate checks r by itself; place comes before the key in errors.
func (r Range) validate(place string) error {
	p := r.Subnet
	switch {
	case !p.IsValid() || p.Addr().Is4In6() || p.Addr().Zone() != "":
		return wrong(place+"subnet", p.String(), "an IP prefix such as 10.1.0.0/24 or fd00:1::/64")
	case p != p.Masked():
		return wrong(place+"subnet", p.String(), p.Masked().String()+", which has no host bits set")
	case p.Bits() > p.Addr().BitLen()-2:
		return wrong(place+"subnet", p.String(), fmt.Sprintf("a prefix of at most /%d, for the network and the gateway take an address each", p.Addr().BitLen()-2))
	}
	for _, f := range []struct {
		key  string
		addr netip.Addr
	}{{"rangeStart", r.Start}, {"rangeEnd", r.End}, {"gateway", r.Gateway}} {
		// As in the reference, a gateway may be outside: then it takes nothing.
		if f.addr.IsValid() && (!p.Contains(f.addr) && f.key != "gateway" || f.addr.Is4() != p.Addr().Is4() || f.addr.Zone() != "") {
			return wrong(place+f.key, f.addr.String(), "an address of "+p.String())
		}
	}
	if b := r.bounds(); b.last.Less(b.first) {
		return wrong(place+"rangeEnd", b.last.String(), "an address not below rangeStart "+b.first.String())
	}
	return nil
}

// bounds returns r from Start to End.
func (r Range) bounds() span {
	b := span{r.Start, r.End}
	if !b.first.IsValid() {
		b.first = r.Subnet.Addr().Next()
	}
	if !b.last.IsValid() {
		b.last = lastOf(r.Subnet)
		if b.last.Is4() {
			b.last = b.last.Prev()
		}
	}
	return b
}

// usable returns r without what is never handed out.
func (r Range) usable(exclude []netip.Prefix) []span {
	spans := []span{r.bounds()}
	network := r.Subnet.Addr()
	spans = without(spans, span{network, network})
	if last := lastOf(r.Subnet); last.Is4() {
		spans = without(spans, span{last, last})
	}
	if r.Gateway.IsValid() {
		spans = without(spans, span{r.Gateway, r.Gateway})
	}
	for _, p := range exclude {
		if p.Addr().Is4() == network.Is4() {
			spans = without(spans, span{p.Masked().Addr(), lastOf(p)})
		}
	}
	return spans
}

// wrong returns an error that says what would be right.
func wrong(key, got, want string) error {
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s=%s: want %s", key, quote(got), want))
}

func quote(s string) string { return strconv.Quote(s) }
