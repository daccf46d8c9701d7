package overlay

import "net/netip"

// A Change brings a kernel from what it has to what it must have: first Put, in
// place of what has the same key, then Drop. So nothing that stays reachable is
// unreachable in between.
type Change struct {
	Put, Drop Entries
	Held      *Held // not nil: the brake held back deletions
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return c.Put.Len()+c.Drop.Len() == 0 }

// A Brake keeps a cluster store that was emptied, or restored from an old copy,
// from taking the network down: too many routes that would go at once stay.
type Brake struct {
	// Share is how much of the routes to blocks may go at once, in percent; 0
	// brakes every deletion, 100 none.
	Share int
	Least int // as many may go in any case
	// Confirmed are blocks whose end is on record; they go, and do not count.
	Confirmed []netip.Prefix
}

// DefaultBrake returns the brake of every day.
func DefaultBrake(confirmed []netip.Prefix) Brake {
	return Brake{Share: 30, Least: 3, Confirmed: confirmed}
}

// A Held says what the brake held back.
type Held struct {
	Routes []Route // to blocks, that would have gone unconfirmed
	Of     int     // routes to blocks that are there
}

// routeKey is by what the kernel tells routes apart.
type routeKey struct {
	prefix netip.Prefix
	metric int
}

// Diff returns what turns have into want. With the brake on, routes stay whose
// end nobody confirmed, and with them all neighbours and FDB entries.
func Diff(want, have Entries, b Brake) Change {
	var c Change
	wanted := map[routeKey]bool{}
	for _, r := range want.Routes {
		wanted[routeKey{r.Prefix, r.Metric}] = true
	}
	c.Put.Routes = lacking(want.Routes, have.Routes)
	for _, r := range lacking(have.Routes, want.Routes) {
		if !wanted[routeKey{r.Prefix, r.Metric}] { // else it is replaced
			c.Drop.Routes = append(c.Drop.Routes, r)
		}
	}
	c.Put.Neighbours = lacking(want.Neighbours, have.Neighbours)
	hops := map[netip.Addr]bool{}
	for _, n := range want.Neighbours {
		hops[n.Addr] = true
	}
	for _, n := range lacking(have.Neighbours, want.Neighbours) {
		if !hops[n.Addr] {
			c.Drop.Neighbours = append(c.Drop.Neighbours, n)
		}
	}
	c.Put.Forwards = lacking(want.Forwards, have.Forwards)
	macs := map[MAC]bool{}
	for _, f := range want.Forwards {
		macs[f.MAC] = true
	}
	for _, f := range lacking(have.Forwards, want.Forwards) {
		if !macs[f.MAC] {
			c.Drop.Forwards = append(c.Drop.Forwards, f)
		}
	}
	return b.hold(c, have)
}

// lacking returns what of want is not in have, once each.
func lacking[T comparable](want, have []T) []T {
	there := make(map[T]bool, len(have))
	for _, e := range have {
		there[e] = true
	}
	var missing []T
	for _, e := range want {
		if !there[e] {
			there[e] = true
			missing = append(missing, e)
		}
	}
	return missing
}

func (b Brake) hold(c Change, have Entries) Change {
	confirmed := map[netip.Prefix]bool{}
	for _, p := range b.Confirmed {
		confirmed[p.Masked()] = true
	}
	var held, free []Route
	for _, r := range c.Drop.Routes {
		if r.Via.IsValid() && !confirmed[r.Prefix] {
			held = append(held, r)
		} else {
			free = append(free, r)
		}
	}
	of := 0
	for _, r := range have.Routes {
		if r.Via.IsValid() {
			of++
		}
	}
	if len(held) <= b.Least || len(held)*100 <= of*b.Share {
		return c
	}
	c.Held = &Held{held, of}
	c.Drop = Entries{Routes: free}
	return c
}
