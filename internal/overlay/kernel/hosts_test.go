package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/overlay"
	"github.com/bowline-net/bowline/internal/overlay/kernel"
)

// A host is a namespace on the test's underlay, with a data path.
type host struct {
	*kernel.Path
	ns   *netns.Handle
	dir  string
	node overlay.Node
}

// hosts makes n hosts whose link up0 is on a bridge.
func hosts(t *testing.T, n int, v6 bool) (all []host) {
	t.Helper()
	wire, err := link.Open(netnstest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(wire.Close)
	br, _, err := wire.EnsureBridge(t.Context(), link.Bridge{Name: "wire"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		h := host{ns: netnstest.New(t), dir: filepath.Join(t.TempDir(), "overlay")}
		a, length := fmt.Sprintf("192.0.2.%d", i+1), "/24"
		if v6 {
			a, length = fmt.Sprintf("2001:db8::%d", i+1), "/64"
		}
		h.node = overlay.Node{ID: fmt.Sprint("node", i), VTEP: netip.MustParseAddr(a)}
		if err := wire.CreateVeth(t.Context(), link.Veth{Name: fmt.Sprint("p", i), Master: br.Index, Peer: "up0", PeerNS: h.ns}); err != nil {
			t.Fatal(err)
		}
		add := []string{"ip", "addr", "add", a + length, "dev", "up0"}
		if v6 {
			add = append(add, "nodad")
		}
		netnstest.Command(t, h.ns, add...)
		netnstest.Command(t, h.ns, "ip", "link", "set", "up0", "up")
		if h.Path, err = kernel.Open(h.ns, h.dir); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			left, _ := h.Networks(context.Background()) // that of the test has ended
			for _, vni := range left {
				if err := netns.Remove(filepath.Join(h.dir, fmt.Sprint("vni-", vni))); err != nil {
					t.Error(err)
				}
			}
			h.Close()
		})
		all = append(all, h)
	}
	err = wire.WaitLinks(t.Context(), func(ls []link.Info) bool {
		up := 0
		for _, l := range ls {
			if l.Carrier && l.Kind == "veth" {
				up++
			}
		}
		return up == n
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func blue() overlay.Network {
	return overlay.Network{VNI: 4097, Subnets: []overlay.Subnet{
		{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("10.1.0.1")},
		{Prefix: netip.MustParsePrefix("fd01::/64"), Gateway: netip.MustParseAddr("fd01::1")},
	}}
}

// viewOf is that of hosts that have one block of each family each.
func viewOf(all []host, self int, n overlay.Network) overlay.View {
	v := overlay.View{Self: all[self].node.ID, Network: n, Underlay: overlay.Underlay{VTEP: all[self].node.VTEP, Port: 4789, MTU: 1500}}
	for i, h := range all {
		v.Nodes = append(v.Nodes, h.node)
		v.Blocks = append(v.Blocks,
			overlay.Block{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.1.%d.0/24", i+1)), Node: h.node.ID},
			overlay.Block{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd01::%d:0/112", i+1)), Node: h.node.ID})
	}
	return v
}

// container returns the endpoint of a new sandbox on the i-th host.
func container(t *testing.T, i, nr int) (kernel.Endpoint, *netns.Handle) {
	t.Helper()
	ns := netnstest.New(t)
	id := fmt.Sprintf("c%d-%d", i, nr)
	return kernel.Endpoint{
		ID: id, MAC: bowline.MAC(id), Sandbox: ns, Link: "eth0",
		Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.1.%d.%d/16", i+1, nr)), netip.MustParsePrefix(fmt.Sprintf("fd01::%d:%x/64", i+1, nr))},
	}, ns
}

func applyAll(t *testing.T, all []host, n overlay.Network) (mtu int) {
	t.Helper()
	for i, h := range all {
		r, err := h.Apply(t.Context(), viewOf(all, i, n), nil, overlay.DefaultBrake(nil))
		if err != nil {
			t.Fatal(err)
		}
		mtu = r.MTU
		if r, err = h.Apply(t.Context(), viewOf(all, i, n), nil, overlay.DefaultBrake(nil)); err != nil || r.Changed() {
			t.Errorf("Apply again: %+v, %v; want that nothing is sent", r, err)
		}
	}
	return mtu
}
