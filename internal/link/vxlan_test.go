package link_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func TestVXLAN(t *testing.T) {
	t.Parallel()
	for _, local := range []string{"192.0.2.1", "2001:db8::1"} {
		t.Run(local, func(t *testing.T) {
			t.Parallel()
			host, inside := netnstest.New(t), netnstest.New(t)
			h, in := openIn(t, host), openIn(t, inside)
			v := link.VXLAN{
				Name: "vxlan0", Alias: "mine", VNI: 4097, Local: netip.MustParseAddr(local), Port: 4790,
				MAC: mac(t, "02:00:00:00:00:09"), MTU: 1400,
			}
			if err := h.CreateVXLAN(t.Context(), in, v); err != nil {
				t.Fatal(err)
			}
			got, err := in.SeeVXLAN(t.Context(), "vxlan0")
			if err != nil || !got.Is(v) || got.Up || got.From < 0 {
				t.Errorf("vxlan is %+v, %v; asked for %+v, down, of another namespace", got, err, v)
			}
			shown := netnstest.Command(t, inside, "ip", "-d", "link", "show", "vxlan0")
			for _, want := range []string{"nolearning", "noudpcsum", "udp6zerocsumtx", "udp6zerocsumrx", "addrgenmode none"} {
				if !strings.Contains(shown, want) {
					t.Errorf("ip shows no %s: %s", want, shown)
				}
			}
			other := v
			other.Name = "vxlan1"
			if err := h.CreateVXLAN(t.Context(), in, other); !errors.Is(err, bowline.ErrConflict) {
				t.Errorf("a VNI twice at a port: %v", err)
			}
			if err := in.Set(t.Context(), "vxlan0", link.Change{Up: true}); err != nil {
				t.Fatal(err)
			}
			if out := netnstest.Command(t, host, "ss", "-Huanl"); !strings.Contains(out, ":4790") {
				t.Errorf("host listens at %q, want the tunnel's port", out)
			}
			for _, change := range []func(*link.VXLAN){
				func(v *link.VXLAN) { v.MTU = 1300 }, func(v *link.VXLAN) { v.VNI = 1 }, func(v *link.VXLAN) { v.Port = 1 },
				func(v *link.VXLAN) { v.MAC = mac(t, "02:00:00:00:00:08") }, func(v *link.VXLAN) { v.Alias = "" },
				func(v *link.VXLAN) { v.Local = netip.MustParseAddr("192.0.2.9") },
			} {
				other := v
				if change(&other); got.Is(other) {
					t.Errorf("%+v is taken for %+v", got.VXLAN, other)
				}
			}
		})
	}
}

func TestSeeVXLANOfAnotherKind(t *testing.T) {
	t.Parallel()
	h := openIn(t, netnstest.New(t))
	if _, err := h.SeeVXLAN(t.Context(), "lo"); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("lo as a vxlan: %v", err)
	}
	if _, err := h.SeeVXLAN(t.Context(), "none"); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("no such link: %v", err)
	}
}

// TestTunnelEntries gives a tunnel more of each than one sending takes, reads
// them again, puts others in their place and takes them away.
func TestTunnelEntries(t *testing.T) {
	t.Parallel()
	host := netnstest.New(t)
	h := openIn(t, host)
	v := link.VXLAN{Name: "vxlan0", VNI: 7, Local: netip.MustParseAddr("192.0.2.1"), Port: 4789, MAC: mac(t, "02:00:00:00:00:09"), MTU: 1400}
	if err := h.CreateVXLAN(t.Context(), h, v); err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, host, "ip", "link", "set", "vxlan0", "up")
	seen, err := h.SeeVXLAN(t.Context(), "vxlan0")
	if err != nil {
		t.Fatal(err)
	}
	// What somebody learned or tried stays out of the lists and is replaced.
	netnstest.Command(t, host, "ip", "-6", "neigh", "add", "fe80::1", "lladdr", "02:ff:00:00:00:01", "dev", "vxlan0", "nud", "stale")
	const n = 300
	var fs []link.Forward
	var ns []link.Neighbour
	rs := []link.TunnelRoute{
		{Dst: netip.MustParsePrefix("10.0.0.0/8"), Unreachable: true, Priority: 9999},
		{Dst: netip.MustParsePrefix("fd00::/64"), Unreachable: true, Priority: 9999},
	}
	for i := 1; i <= n; i++ {
		m := net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}
		via := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: byte(i >> 8), 15: byte(i)})
		fs = append(fs, link.Forward{MAC: m, VTEP: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})})
		ns = append(ns, link.Neighbour{Addr: via, MAC: m})
		rs = append(rs, link.TunnelRoute{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), Via: via, MTU: 1300 + i%2, Priority: 2048},
			link.TunnelRoute{Dst: netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 12: byte(i >> 8), 13: byte(i)}), 112), Via: via, Priority: 2048})
	}
	ctx := t.Context()
	check := func(when string, fs []link.Forward, ns []link.Neighbour, rs []link.TunnelRoute) {
		t.Helper()
		gotF, err1 := h.Forwards(ctx, seen.Index)
		gotN, err2 := h.Neighbours(ctx, seen.Index)
		gotR, err3 := h.TunnelRoutes(ctx, seen.Index)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		same(t, when, gotF, fs)
		same(t, when, gotN, ns)
		same(t, when, gotR, rs)
	}
	put := func() {
		t.Helper()
		if err := errors.Join(h.PutForwards(ctx, seen.Index, fs), h.PutNeighbours(ctx, seen.Index, ns), h.PutTunnelRoutes(ctx, seen.Index, rs)); err != nil {
			t.Fatal(err)
		}
	}
	put()
	check("put", fs, ns, rs)
	put()
	check("put again", fs, ns, rs)
	fs[5].VTEP, ns[6].MAC = fs[7].VTEP, ns[7].MAC
	rs[8].Via, rs[9].Via = rs[10].Via, rs[10].Via
	rs[9].MTU = 1290
	put()
	check("replaced", fs, ns, rs)
	// Some are gone already.
	netnstest.Command(t, host, "bridge", "fdb", "del", fs[0].MAC.String(), "dev", "vxlan0", "dst", fs[0].VTEP.String())
	netnstest.Command(t, host, "ip", "neigh", "del", ns[0].Addr.String(), "dev", "vxlan0")
	netnstest.Command(t, host, "ip", "route", "del", rs[2].Dst.String())
	if err := errors.Join(h.DeleteForwards(ctx, seen.Index, fs[:200]), h.DeleteNeighbours(ctx, seen.Index, ns[:200]), h.DeleteTunnelRoutes(ctx, seen.Index, rs[:200])); err != nil {
		t.Fatal(err)
	}
	check("deleted", fs[200:], ns[200:], rs[200:])
	if err := h.PutForwards(ctx, 99, fs); err == nil {
		t.Error("FDB entries of no link are put")
	}
	if err := h.DeleteForwards(ctx, 99, fs); err == nil {
		t.Error("FDB entries of no link are deleted")
	}
}

// same compares lists in any order.
func same[T any](t *testing.T, when string, got, want []T) {
	t.Helper()
	text := func(all []T) []string {
		var s []string
		for _, e := range all {
			s = append(s, fmt.Sprintf("%+v", e))
		}
		slices.Sort(s)
		return s
	}
	g, w := text(got), text(want)
	if slices.Equal(g, w) {
		return
	}
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Errorf("%s: %d entries, want %d; from the %d. on:\n got %.3s\nwant %.3s", when, len(g), len(w), i+1, g[min(i, len(g)):], w[min(i, len(w)):])
			return
		}
	}
}
