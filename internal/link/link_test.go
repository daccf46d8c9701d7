package link_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// open returns a handle on a kernel of the test's own.
func open(t testing.TB) *link.Handle {
	t.Helper()
	return openIn(t, netnstest.New(t))
}

func openIn(t testing.TB, ns *netns.Handle) *link.Handle {
	t.Helper()
	h, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func bridgeWithVeth(t testing.TB, host *link.Handle, sandbox *netns.Handle, port *link.Port) link.Info {
	t.Helper()
	br, made, err := host.EnsureBridge(t.Context(), link.Bridge{Name: "br0", MAC: bowline.MAC("br0"), MTU: 1400})
	if err != nil || !made {
		t.Fatalf("EnsureBridge = %v, %v", made, err)
	}
	err = host.CreateVeth(t.Context(), link.Veth{
		Name: "outer", Alias: "bowline web c1", MTU: 1400, Master: br.Index, Port: port,
		Peer: "eth0", PeerMAC: bowline.MAC("c1"), PeerNS: sandbox,
	})
	if err != nil {
		t.Fatal(err)
	}
	return br
}

func TestCreateVeth(t *testing.T) {
	t.Parallel()
	hostNS, sandbox := netnstest.New(t), netnstest.New(t)
	host, inside := openIn(t, hostNS), openIn(t, sandbox)
	br := bridgeWithVeth(t, host, sandbox, &link.Port{Hairpin: true, Isolated: true})

	outer, err := host.Get(t.Context(), "outer")
	if err != nil {
		t.Fatal(err)
	}
	if outer.Master != br.Index || outer.MTU != 1400 || outer.Alias != "bowline web c1" || !outer.Up {
		t.Errorf("outer end is %+v", outer)
	}
	if got := netnstest.Command(t, hostNS, "ip", "-d", "link", "show", "outer"); !strings.Contains(got, "hairpin on") || !strings.Contains(got, "isolated on") || !strings.Contains(got, "addrgenmode none") {
		t.Errorf("port is not hairpin, isolated, without link-local address: %s", got)
	}
	inner, err := inside.Get(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if inner.MAC.String() != bowline.MAC("c1").String() || inner.MTU != 1400 || inner.Up {
		t.Errorf("inner end is %+v", inner)
	}
	err = host.CreateVeth(t.Context(), link.Veth{Name: "outer", Peer: "eth1", PeerNS: sandbox})
	if !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("second CreateVeth: %v, want ErrConflict", err)
	}
}

// detached are the ways to delete.
func detached() map[string]func(*link.Handle) {
	return map[string]func(*link.Handle){
		"no":          func(*link.Handle) {},
		"to a child":  func(h *link.Handle) { h.Detach = true },
		"to a thread": func(h *link.Handle) { h.Detach, h.Stays = true, true },
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	for detach, set := range detached() {
		sandbox := netnstest.New(t)
		host, inside := open(t), openIn(t, sandbox)
		set(host)
		for range 3 { // the names must be free for an ADD right after
			bridgeWithVeth(t, host, sandbox, nil)
			if err := host.Delete(t.Context(), "outer"); err != nil {
				t.Fatal(err)
			}
			if names, err := inside.Names(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("detach %s: sandbox has %v, %v afterwards", detach, names, err)
			}
			if err := host.Delete(t.Context(), "br0"); err != nil {
				t.Fatal(err)
			}
			if names, err := host.Names(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("detach %s: host has %v, %v afterwards", detach, names, err)
			}
			if err := host.Delete(t.Context(), "outer"); err != nil {
				t.Errorf("delete of nothing: %v", err)
			}
		}
	}
}

func TestDeleteTogether(t *testing.T) {
	t.Parallel()
	for detach, set := range detached() {
		sandbox := netnstest.New(t)
		host, inside := open(t), openIn(t, sandbox)
		set(host)
		bridgeWithVeth(t, host, sandbox, nil)
		other := link.Veth{Name: "other", Peer: "eth1", PeerNS: sandbox}
		if err := host.CreateVeth(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if err := host.Delete(t.Context(), "outer", "nobody", "other"); err != nil {
			t.Fatal(err)
		}
		if names, err := host.Names(t.Context()); err != nil || !slices.Equal(names, []string{"br0"}) {
			t.Errorf("detach %s: host has %v, %v afterwards, want br0", detach, names, err)
		}
		if names, err := inside.Names(t.Context()); err != nil || len(names) != 0 {
			t.Errorf("detach %s: sandbox has %v, %v afterwards", detach, names, err)
		}
		if err := host.Delete(t.Context(), "outer", "other"); err != nil {
			t.Errorf("delete of nothing: %v", err)
		}
	}
}

func TestEnsureBridge(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	netnstest.Command(t, ns, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	if _, _, err := h.EnsureBridge(t.Context(), link.Bridge{Name: "v0"}); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("EnsureBridge over a veth: %v, want ErrConflict", err)
	}
	first, made, err := h.EnsureBridge(t.Context(), link.Bridge{Name: "br0", MAC: bowline.MAC("x"), MTU: 1300})
	if err != nil || !made || !first.Up {
		t.Fatalf("EnsureBridge = %+v, %v, %v", first, made, err)
	}
	second, made, err := h.EnsureBridge(t.Context(), link.Bridge{Name: "br0", MAC: bowline.MAC("y"), MTU: 1200})
	if err != nil || made || second.Index != first.Index || second.MTU != 1300 || second.MAC.String() != bowline.MAC("x").String() {
		t.Errorf("second EnsureBridge = %+v, %v, %v; want the first as it was", second, made, err)
	}
	// Neither a smaller port nor the loss of the last port may change it.
	netnstest.Command(t, ns, "ip", "link", "set", "v0", "mtu", "1000", "master", "br0")
	netnstest.Command(t, ns, "ip", "link", "del", "v0")
	if got, err := h.Get(t.Context(), "br0"); err != nil || got.MTU != 1300 || got.MAC.String() != bowline.MAC("x").String() {
		t.Errorf("after a small port came and went the bridge is %+v, %v", got, err)
	}
}

func TestAddressesAndRoutes(t *testing.T) {
	t.Parallel()
	sandbox := netnstest.New(t)
	host, inside := open(t), openIn(t, sandbox)
	bridgeWithVeth(t, host, sandbox, nil)
	ctx := t.Context()
	if err := inside.Set(ctx, "eth0", link.Change{Up: true, ARPNotify: true}); err != nil {
		t.Fatal(err)
	}
	if got := netnstest.Command(t, sandbox, "sysctl", "-n", "net.ipv4.conf.eth0.arp_notify"); strings.TrimSpace(got) != "1" {
		t.Errorf("arp_notify is %s", got)
	}
	eth0, err := inside.Get(ctx, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	addrs := []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00:1::2/64")}
	for i, want := range []bool{true, false} {
		for _, p := range addrs {
			if made, err := inside.EnsureAddr(ctx, eth0.Index, link.Addr{Prefix: p}); err != nil || made != want {
				t.Errorf("EnsureAddr %s, time %d = %v, %v", p, i+1, made, err)
			}
		}
	}
	if got, err := inside.Addrs(ctx, eth0.Index); err != nil || !slices.Equal(got, addrs) {
		t.Errorf("Addrs = %v, %v; want %v", got, err, addrs)
	}
	if got := netnstest.Command(t, sandbox, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global"); strings.Contains(got, "tentative") {
		t.Errorf("IPv6 address is not usable at once: %s", got)
	}
	table := 100
	routes := []bowline.Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")},
		{Dst: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("10.1.0.1"), MTU: 1300, AdvMSS: 1200, Priority: 7, Table: &table},
		{Dst: netip.MustParsePrefix("fd00:9::/64"), Via: netip.MustParseAddr("fd00:1::1"), MTU: 1290},
	}
	for _, r := range routes {
		if made, err := inside.EnsureRoute(ctx, eth0.Index, r); err != nil || !made {
			t.Errorf("EnsureRoute %v = %v, %v", r, made, err)
		}
	}
	if got := netnstest.Command(t, sandbox, "ip", "route", "show", "table", "100"); !strings.Contains(got, "10.9.0.0/16 via 10.1.0.1 dev eth0 metric 7 mtu 1300 advmss 1200") {
		t.Errorf("route in table 100: %s", got)
	}
	if got := netnstest.Command(t, sandbox, "ip", "-6", "route", "show", "fd00:9::/64"); !strings.Contains(got, "mtu 1290") {
		t.Errorf("IPv6 route: %s", got)
	}
	def, err := inside.DefaultLink(ctx)
	if err != nil || def.Name != "eth0" {
		t.Errorf("DefaultLink = %+v, %v", def, err)
	}
	all, err := inside.Routes(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	found := slices.ContainsFunc(all, func(e link.Entry) bool {
		return e.Dst == routes[1].Dst && *e.Table == 100 && e.MTU == 1300 && e.AdvMSS == 1200 && e.Priority == 7 && e.Via == routes[1].Via
	})
	if !found {
		t.Errorf("Routes lacks %v: %+v", routes[1], all)
	}
	for _, p := range addrs {
		for range 2 {
			if err := inside.DeleteAddr(ctx, eth0.Index, p); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestVerbsAskTheirContext(t *testing.T) {
	t.Parallel()
	h := open(t)
	ctx := netnstest.FailAfter(t.Context(), 0)
	_, err1 := h.Get(ctx, "lo")
	_, _, err2 := h.EnsureBridge(ctx, link.Bridge{Name: "br0"})
	err3 := h.CreateVeth(ctx, link.Veth{Name: "a", Peer: "b"})
	err4 := h.Delete(ctx, "lo")
	for i, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("verb %d: %v, want canceled", i+1, err)
		}
	}
	if names, _ := h.Names(t.Context()); len(names) != 0 {
		t.Errorf("a dead context still made %v", names)
	}
}

func BenchmarkDelete(b *testing.B) {
	for name, set := range detached() {
		b.Run("detach "+name, func(b *testing.B) {
			host := open(b)
			set(host)
			sandbox := netnstest.New(b)
			for b.Loop() {
				b.StopTimer()
				if err := host.CreateVeth(b.Context(), link.Veth{Name: "outer", Peer: "eth0", PeerNS: sandbox}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := host.Delete(b.Context(), "outer"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCreateVeth(b *testing.B) {
	host := open(b)
	sandbox := netnstest.New(b)
	br, _, err := host.EnsureBridge(b.Context(), link.Bridge{Name: "br0"})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := host.CreateVeth(b.Context(), link.Veth{Name: "outer", Peer: "eth0", PeerNS: sandbox, Master: br.Index}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := host.Delete(b.Context(), "outer"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func TestForwardKeepsAdvertisedRoutes(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	netnstest.Command(t, ns, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	netnstest.Command(t, ns, "ip", "link", "set", "up1", "up")
	netnstest.Command(t, ns, "ip", "link", "set", "up0", "up")
	netnstest.Command(t, ns, "ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "up0", "proto", "ra")
	for range 2 {
		if err := h.Forward(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]string{
		"net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/up0/accept_ra": "2", "net/ipv6/conf/up1/accept_ra": "1",
	} {
		if got, err := h.Sysctl(t.Context(), key); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %s", key, got, err, want)
		}
	}
	if got := netnstest.Command(t, ns, "ip", "-6", "route", "show", "default"); !strings.Contains(got, "fe80::1") {
		t.Errorf("the advertised default route is gone: %q", got)
	}
	if err := h.Forward(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Sysctl(t.Context(), "net/ipv4/ip_forward"); err != nil || got != "1" {
		t.Errorf("ip_forward is %q, %v", got, err)
	}
}

// Containers may send what they like; the host takes no route from them.
func TestBridgeIgnoresAdvertisements(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	bridgeWithVeth(t, h, netnstest.New(t), nil)
	if got, err := h.Sysctl(t.Context(), "net/ipv6/conf/br0/accept_ra"); err != nil || got != "0" {
		t.Errorf("accept_ra is %q, %v; want 0", got, err)
	}
	// And it does not wait for its own link-local address.
	if got, err := h.Sysctl(t.Context(), "net/ipv6/conf/br0/accept_dad"); err != nil || got != "0" {
		t.Errorf("accept_dad is %q, %v; want 0", got, err)
	}
}

func TestLinkLocalAddresses(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	br := bridgeWithVeth(t, h, netnstest.New(t), nil)
	want := []netip.Prefix{netip.MustParsePrefix("169.254.172.1/22"), netip.MustParsePrefix("fe80::1/64")}
	for _, p := range want {
		if _, err := h.EnsureAddr(t.Context(), br.Index, link.Addr{Prefix: p}); err != nil {
			t.Fatal(err)
		}
	}
	for what, list := range map[string]func(context.Context, int) ([]netip.Prefix, error){"Addrs": h.Addrs, "OurAddrs": h.OurAddrs} {
		if got, err := list(t.Context(), br.Index); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %v, %v; want %v, and not what the kernel made", what, got, err, want)
		}
	}
}

// What a handle returned stays what it is, whatever is asked next.
func TestInfoIsNotOverwritten(t *testing.T) {
	t.Parallel()
	h := open(t)
	br := bridgeWithVeth(t, h, netnstest.New(t), nil)
	if _, err := h.Links(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := bowline.MAC("br0"); br.MAC.String() != want.String() {
		t.Errorf("MAC of the bridge is %s, want %s", br.MAC, want)
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	got := link.Tags([]link.VLAN{{Min: 20, Max: 21}, {Min: 1, Max: 1, Untagged: true, NotPVID: true}, {Min: 5, Max: 5, Untagged: true}, {Min: 10, Max: 10, Untagged: true}})
	want := map[int]link.TagState{20: {}, 21: {}, 1: {Untagged: true}, 5: {Untagged: true}, 10: {Untagged: true, PVID: true}}
	if !maps.Equal(got, want) {
		t.Errorf("Tags = %v, want %v", got, want)
	}
}
