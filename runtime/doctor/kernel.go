package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/nft"
)

// A feature is something that a kernel has or has not.
type feature struct {
	name   string
	config string // how the kernel's own configuration calls it
	need   string // what there is not without it; empty: nothing works
	try    func(context.Context) error
}

// kernel tries each feature in a namespace of its own.
func (d *doctor) kernel(ctx context.Context) {
	ns, err := netns.New()
	if err != nil {
		d.say(Fail, err.Error(), "run as root, on a kernel with CONFIG_NET_NS")
		return
	}
	defer ns.Close()
	links, err := link.Open(ns)
	if err != nil {
		d.unsure(err)
		return
	}
	defer links.Close()
	kind := func(name string) func(context.Context) error {
		return func(ctx context.Context) error { return links.Probe(ctx, name) }
	}
	var has []string
	for _, f := range []feature{
		{"veth", "CONFIG_VETH", "", kind("veth")},
		{"bridge", "CONFIG_BRIDGE", "", kind("bridge")},
		{"nftables", "CONFIG_NF_TABLES, CONFIG_NFT_MASQ, CONFIG_NFT_NAT", "", func(ctx context.Context) error { return tryTables(ctx, ns) }},
		{"translation to published ports", "CONFIG_NFT_NAT, CONFIG_NFT_CT, CONFIG_NFT_FIB_IPV4 and CONFIG_NFT_FIB_IPV6", "published ports", func(ctx context.Context) error { return tryPorts(ctx, ns) }},
		{"hooks at links inside of sandboxes", "CONFIG_NETFILTER_INGRESS and CONFIG_NETFILTER_EGRESS", "policies and host access of macvlan networks", func(ctx context.Context) error { return tryHooks(ctx, ns, links) }},
		{"VLAN filtering of bridges", "CONFIG_BRIDGE_VLAN_FILTERING", "options vlan and vlanTrunk", func(ctx context.Context) error { return tryVLANs(ctx, links) }},
		{"macvlan", "CONFIG_MACVLAN", "macvlan networks", kind("macvlan")},
		{"vxlan", "CONFIG_VXLAN", "overlay networks", kind("vxlan")},
		{"802.1q", "CONFIG_VLAN_8021Q", "VLANs of a parent link", kind("vlan")},
		{"ipvlan", "CONFIG_IPVLAN", "ipvlan plugins of others", kind("ipvlan")},
		{"limits", "CONFIG_NET_SCH_TBF, CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED and CONFIG_IFB", "limits of rates", func(ctx context.Context) error { return tryLimits(ctx, links) }},
		{"wireguard", "CONFIG_WIREGUARD", "encryption by the kernel", kind("wireguard")},
	} {
		err := f.try(ctx)
		switch {
		case err == nil:
			has = append(has, f.name)
		case !errors.Is(err, bowline.ErrNoKernel):
			d.say(Warn, f.name+": "+err.Error(), "")
		case f.need == "":
			d.say(Fail, "no "+f.name, "want a kernel with "+f.config)
		default:
			d.say(Note, "no "+f.name+", so no "+f.need, "a kernel with "+f.config+" has it")
		}
	}
	d.say(OK, "has "+strings.Join(has, ", "), "")
}

// tryTables does in the namespace what bridge networks do: sets, maps,
// concatenated keys and masquerading.
func tryTables(ctx context.Context, ns *netns.Handle) error {
	h := nft.Open(ns)
	defer h.Close()
	n := nft.Network{ID: "probe", Bridge: "probe0", V4: true, V6: true, Masq: []netip.Prefix{
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64"),
	}}
	if err := h.EnsureNetwork(ctx, n); err != nil {
		return err
	}
	return h.DeleteNetwork(ctx, n)
}

// tryPorts leads a port of each family to an address.
func tryPorts(ctx context.Context, ns *netns.Handle) error {
	h := nft.Open(ns)
	defer h.Close()
	n := nft.Network{ID: "probe", Bridge: "probe0", V4: true, V6: true}
	e := nft.Endpoint{ID: "probe", Port: "probe7"}
	for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
		a := netip.MustParseAddr(to)
		all, _ := netip.AddrFromSlice(make([]byte, a.BitLen()/8))
		e.Ports = append(e.Ports, nft.Port{Host: all, First: 1, Count: 1, Protocol: 6, To: netip.AddrPortFrom(a, 1)})
	}
	err := h.EnsureEndpoint(ctx, n, e)
	if errors.Is(err, unix.ENOENT) { // what the kernel says of an expression that it lacks
		err = fmt.Errorf("%w: %w", bowline.ErrNoKernel, err)
	}
	return errors.Join(err, h.DeleteNetwork(ctx, n))
}

// tryHooks keeps a policy as macvlan networks do.
func tryHooks(ctx context.Context, ns *netns.Handle, links *link.Handle) error {
	if err := links.CreateVeth(ctx, link.Veth{Name: "probe7", Peer: "probe8"}); err != nil {
		return err
	}
	h := nft.OpenSandbox(ns)
	defer h.Close()
	policy := []bowline.PolicyRule{{Action: "deny", Direction: "egress"}, {Action: "deny", Direction: "ingress"}}
	err := h.EnsureEndpoint(ctx, "probe", nft.Endpoint{ID: "probe", Port: "probe7", Policy: policy})
	return errors.Join(err, h.DeleteEndpoint(ctx, "probe", "probe"), links.Delete(ctx, "probe7"))
}

func tryLimits(ctx context.Context, links *link.Handle) error {
	b := link.Bucket{Rate: 1e6}
	err := links.CreateVeth(ctx, link.Veth{Name: "probe4", Peer: "probe5", Limits: link.Limits{Out: b, In: b, IFB: "probe6"}})
	return errors.Join(err, links.Delete(ctx, "probe4", "probe6"))
}

func tryVLANs(ctx context.Context, links *link.Handle) error {
	_, made, err := links.EnsureBridge(ctx, link.Bridge{Name: "probe3", VLANFiltering: true})
	if made {
		return errors.Join(err, links.Delete(ctx, "probe3"))
	}
	return err
}
