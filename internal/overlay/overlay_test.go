package overlay_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/overlay"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr  { return netip.MustParseAddr(s) }

func blue() overlay.Network {
	return overlay.Network{VNI: 4097, Subnets: []overlay.Subnet{
		{Prefix: pfx("10.1.0.0/16"), Gateway: addr("10.1.0.1")}, {Prefix: pfx("fd01::/64"), Gateway: addr("fd01::1")}}}
}

func view() overlay.View {
	return overlay.View{
		Self: "a", Network: blue(), Underlay: overlay.Underlay{VTEP: addr("192.0.2.1"), Port: 4789, MTU: 1500},
		Nodes: []overlay.Node{
			{ID: "a", VTEP: addr("192.0.2.1")}, {ID: "b", VTEP: addr("192.0.2.2")},
			{ID: "c", VTEP: addr("192.0.2.3"), MTU: 1400, Suspended: true}, {ID: "six", VTEP: addr("2001:db8::6")},
		},
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*overlay.Network)
		want   string
	}{
		{"right", func(*overlay.Network) {}, ""},
		{"VNI", func(n *overlay.Network) { n.VNI = 1 << 24 }, "network: vni=16777216: want 1 to 16777215"},
		{"no subnet", func(n *overlay.Network) { n.Subnets = nil }, "network with VNI 4097: it has no subnet; want one at least"},
		{"host bits", func(n *overlay.Network) { n.Subnets[0].Prefix = pfx("10.1.0.9/16") }, "network with VNI 4097: subnet=10.1.0.9/16: want a prefix without host bits"},
		{"gateway", func(n *overlay.Network) { n.Subnets[0].Gateway = addr("10.2.0.1") }, "network with VNI 4097: gateway=10.2.0.1: want an address in 10.1.0.0/16"},
		{"overlap", func(n *overlay.Network) { n.Subnets[1] = n.Subnets[0] }, "network with VNI 4097: subnet=10.1.0.0/16: overlaps 10.1.0.0/16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := blue()
			tt.change(&n)
			got := ""
			if err := n.Check(); err != nil {
				if got = err.Error(); !errors.Is(err, bowline.ErrInvalid) {
					t.Errorf("%v is not ErrInvalid", err)
				}
			}
			if got != tt.want {
				t.Errorf("Check:\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFitMTU(t *testing.T) {
	for _, tt := range []struct {
		name     string
		vtep     string
		underlay int
		given    int
		far      int // MTU on the way to another node
		want     int // 0: an error
	}{
		{"Ethernet, IPv4", "192.0.2.1", 1500, 0, 0, 1450},
		{"Ethernet, IPv6", "2001:db8::1", 1500, 0, 0, 1430},
		{"jumbo", "192.0.2.1", 9000, 0, 0, 8950},
		{"the smallest way counts", "192.0.2.1", 9000, 0, 1400, 1350},
		{"given", "192.0.2.1", 1500, 1400, 0, 1400},
		{"given and less than IPv6 takes", "192.0.2.1", 1500, 1279, 0, 0},
		{"underlay too small for IPv6", "2001:db8::1", 1349, 0, 0, 0},
		{"underlay just right", "2001:db8::1", 1350, 0, 0, 1280},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := blue()
			n.MTU = tt.given
			got, err := n.FitMTU(overlay.Underlay{VTEP: addr(tt.vtep), MTU: tt.underlay}, []overlay.Node{{ID: "b", VTEP: addr(tt.vtep), MTU: tt.far}})
			if got != tt.want || (err != nil) != (tt.want == 0) {
				t.Errorf("FitMTU is %d, %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestWant(t *testing.T) {
	v := view()
	b, c := v.Nodes[1], v.Nodes[2]
	v.Blocks = []overlay.Block{
		{Prefix: pfx("10.1.1.0/24"), Node: "a"}, {Prefix: pfx("10.1.2.0/24"), Node: "b"}, {Prefix: pfx("fd01::2:0/112"), Node: "b"},
		{Prefix: pfx("10.1.1.7/32"), Node: "b"}, {Prefix: pfx("10.1.3.0/24"), Node: "c"},
		{Prefix: pfx("10.1.4.0/24"), Node: "nobody"}, {Prefix: pfx("10.9.4.0/24"), Node: "b"}, {Prefix: pfx("10.1.5.0/24"), Node: "six"},
	}
	got, skipped, err := v.Want(1450)
	if err != nil {
		t.Fatal(err)
	}
	want := overlay.Entries{
		Routes: []overlay.Route{
			{Prefix: pfx("10.1.0.0/16"), Metric: overlay.MetricUnreachable}, {Prefix: pfx("fd01::/64"), Metric: overlay.MetricUnreachable},
			{Prefix: pfx("10.1.2.0/24"), Via: b.Via(), Metric: overlay.MetricBlock}, {Prefix: pfx("fd01::2:0/112"), Via: b.Via(), Metric: overlay.MetricBlock},
			{Prefix: pfx("10.1.1.7/32"), Via: b.Via(), Metric: overlay.MetricBlock},
			{Prefix: pfx("10.1.3.0/24"), Via: c.Via(), MTU: 1350, Metric: overlay.MetricBlock}, // suspended, not gone
		},
		Neighbours: []overlay.Neighbour{{Addr: b.Via(), MAC: b.MAC()}, {Addr: c.Via(), MAC: c.MAC()}},
		Forwards:   []overlay.Forward{{MAC: b.MAC(), VTEP: b.VTEP}, {MAC: c.MAC(), VTEP: c.VTEP}},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Want:\n got %v\nwant %v", got, want)
	}
	var why []string
	for _, s := range skipped {
		why = append(why, s.Block.Prefix.String()+": "+s.Why)
	}
	if wantWhy := []string{
		"10.1.4.0/24: nothing is known of its node", "10.9.4.0/24: it is in no subnet of the network",
		"10.1.5.0/24: its node's VTEP 2001:db8::6 is not of the family of 192.0.2.1",
	}; !slices.Equal(why, wantWhy) {
		t.Errorf("skipped are %q, want %q", why, wantWhy)
	}
	if vteps := v.VTEPs(); !slices.Equal(vteps, []netip.Addr{b.VTEP, c.VTEP}) {
		t.Errorf("VTEPs are %v", vteps)
	}
	v.Blocks = append(v.Blocks, overlay.Block{Prefix: pfx("10.1.2.0/24"), Node: "c"})
	if _, _, err := v.Want(1450); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("two owners of a block: %v", err)
	}
	v = view()
	v.Nodes = append(v.Nodes, v.Nodes[1])
	if _, _, err := v.Want(1450); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("a node twice: %v", err)
	}
}

func TestBrake(t *testing.T) {
	v := view()
	for i := range 20 {
		v.Blocks = append(v.Blocks, overlay.Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24), Node: []string{"b", "c"}[i/10]})
	}
	have, _, err := v.Want(1450)
	if err != nil {
		t.Fatal(err)
	}
	all := v.Blocks
	for _, tt := range []struct {
		name      string
		gone      int // blocks that are not in the store any more, of 20
		confirmed int // of those
		wantHeld  int
		wantDrops int // entries
	}{
		{"nothing", 0, 0, 0, 0},
		{"a few", 6, 0, 0, 6},
		{"too many", 7, 0, 7, 0},
		{"too many, but confirmed", 7, 1, 0, 7},
		{"the whole store", 20, 0, 20, 0},
		{"a node left, as it should", 10, 10, 0, 12},
		{"confirmed ones go even so", 20, 5, 15, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := v
			v.Blocks = all[tt.gone:]
			want, _, err := v.Want(1450)
			if err != nil {
				t.Fatal(err)
			}
			var confirmed []netip.Prefix
			for _, b := range all[:tt.confirmed] {
				confirmed = append(confirmed, b.Prefix)
			}
			c := overlay.Diff(want, have, overlay.DefaultBrake(confirmed))
			held := 0
			if c.Held != nil {
				if held = len(c.Held.Routes); c.Held.Of != 20 {
					t.Errorf("held of %d routes, want of 20", c.Held.Of)
				}
			}
			if held != tt.wantHeld || c.Drop.Len() != tt.wantDrops || c.Put.Len() != 0 {
				t.Errorf("held %d, drops %d, puts %d; want %d, %d, 0", held, c.Drop.Len(), c.Put.Len(), tt.wantHeld, tt.wantDrops)
			}
		})
	}
}

// apply does to have what the kernel would.
func apply(have overlay.Entries, c overlay.Change) overlay.Entries {
	type key struct {
		p netip.Prefix
		m int
	}
	routes, hops, macs := map[key]overlay.Route{}, map[netip.Addr]overlay.Neighbour{}, map[overlay.MAC]overlay.Forward{}
	for _, e := range []overlay.Entries{have, c.Put} {
		for _, r := range e.Routes {
			routes[key{r.Prefix, r.Metric}] = r
		}
		for _, n := range e.Neighbours {
			hops[n.Addr] = n
		}
		for _, f := range e.Forwards {
			macs[f.MAC] = f
		}
	}
	for _, r := range c.Drop.Routes {
		delete(routes, key{r.Prefix, r.Metric})
	}
	for _, n := range c.Drop.Neighbours {
		delete(hops, n.Addr)
	}
	for _, f := range c.Drop.Forwards {
		delete(macs, f.MAC)
	}
	return overlay.Entries{Routes: slices.Collect(maps.Values(routes)), Neighbours: slices.Collect(maps.Values(hops)), Forwards: slices.Collect(maps.Values(macs))}
}

// random returns a view of a cluster, with nodes that move and come and go.
func random(r *rand.Rand) overlay.View {
	v := overlay.View{Self: "n0", Network: blue(), Underlay: overlay.Underlay{VTEP: addr("192.0.2.1"), Port: 4789, MTU: 1500}}
	for i := range 1 + r.IntN(6) {
		v.Nodes = append(v.Nodes, overlay.Node{ID: fmt.Sprint("n", i), VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + r.IntN(200))}), MTU: r.IntN(2) * 1400})
	}
	for i := range r.IntN(40) {
		if r.IntN(2) == 0 {
			v.Blocks = append(v.Blocks, overlay.Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24+r.IntN(9)), Node: fmt.Sprint("n", r.IntN(7))})
		}
	}
	return v
}

// FuzzDiff checks of any two states of a cluster that the difference, applied to
// what is there, gives what is wanted, and nothing more to do; that the brake
// only ever keeps something; and how many entries there are.
func FuzzDiff(f *testing.F) {
	for seed := range uint64(500) {
		f.Add(seed, uint8(seed%101))
	}
	f.Fuzz(func(t *testing.T, seed uint64, share uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		was, is := random(r), random(r)
		have, _, err := was.Want(1450)
		if err != nil {
			t.Fatal(err)
		}
		want, skipped, err := is.Want(1450)
		if err != nil {
			t.Fatal(err)
		}
		foreign := 0
		for _, b := range is.Blocks {
			if b.Node != is.Self {
				foreign++
			}
		}
		if len(want.Routes) != len(is.Network.Subnets)+foreign-len(skipped) || len(want.Neighbours) > len(is.Nodes)-1 || len(want.Forwards) != len(want.Neighbours) {
			t.Fatalf("seed %d: %d routes, %d neighbours, %d FDB entries of %d blocks on %d nodes", seed, len(want.Routes), len(want.Neighbours), len(want.Forwards), foreign, len(is.Nodes))
		}
		c := overlay.Diff(want, have, overlay.Brake{Share: 100})
		got := apply(have, c)
		if c.Held != nil || !overlay.Diff(want, got, overlay.Brake{Share: 100}).Empty() || got.Len() != want.Len() {
			t.Fatalf("seed %d: applied\n%+v\nto %v\ngives %v\nwant %v", seed, c, have, got, want)
		}
		braked := overlay.Diff(want, have, overlay.Brake{Share: int(share)})
		if after := apply(have, braked); fmt.Sprint(braked.Put) != fmt.Sprint(c.Put) || !overlay.Diff(want, apply(after, overlay.Diff(want, after, overlay.Brake{Share: 100})), overlay.Brake{Share: 100}).Empty() {
			t.Fatalf("seed %d: the brake changes more than deletions", seed)
		}
		if braked.Held != nil && braked.Drop.Len() != 0 {
			t.Fatalf("seed %d: braked and yet %+v goes", seed, braked.Drop)
		}
	})
}
