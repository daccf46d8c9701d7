package link_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/plan"
)

func dryOf(t *testing.T, host, sandbox *netns.Handle, empty bool) (in, out *link.Handle, steps func() string) {
	t.Helper()
	p := new(plan.Plan)
	d := link.NewDry(p)
	d.Space("host", host, false)
	d.Space("sandbox", sandbox, empty)
	var hs [2]*link.Handle
	for i, ns := range []*netns.Handle{host, sandbox} {
		h, err := d.Open(ns)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Close)
		hs[i] = h
	}
	return hs[1], hs[0], func() string {
		var b strings.Builder
		for _, s := range p.Steps() {
			b.WriteString(s.Where + ": " + s.What + "\n")
		}
		return b.String()
	}
}

// What would be made can be looked at, is said as ip says it, and is not made.
func TestDry(t *testing.T) {
	t.Parallel()
	host, sandbox := netnstest.New(t), netnstest.New(t)
	netnstest.Command(t, sandbox, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	in, out, steps := dryOf(t, host, sandbox, false)
	ctx := t.Context()
	br, made, err := out.EnsureBridge(ctx, link.Bridge{Name: "br0", Alias: "bowline web", MAC: bowline.MAC("br0"), MTU: 1400})
	if err != nil || !made || br.Index == 0 || br.Kind != "bridge" || br.MTU != 1400 || br.Alias != "bowline web" || !br.Up {
		t.Fatalf("EnsureBridge: %+v, %v, %v", br, made, err)
	}
	gw := link.Addr{Prefix: netip.MustParsePrefix("10.1.0.1/24")}
	for i := range 2 {
		if made, err := out.EnsureAddr(ctx, br.Index, gw); err != nil || made != (i == 0) {
			t.Errorf("EnsureAddr, time %d: %v, %v", i+1, made, err)
		}
	}
	v := link.Veth{
		Name: "outer", MAC: bowline.MAC("o"), Alias: "bowline c1", MTU: 1400, Master: br.Index, Port: &link.Port{Hairpin: true},
		Peer: "eth0", PeerMAC: bowline.MAC("c1"), PeerNS: sandbox,
		Limits: link.Limits{Out: link.Bucket{Rate: 8e6, Burst: 20000}, In: link.Bucket{Rate: 8e6, Burst: 20000}, IFB: "ifb0", Alias: "limits"},
	}
	if err := out.CreateVeth(ctx, v); err != nil {
		t.Fatal(err)
	}
	if err := out.CreateVeth(ctx, v); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("second CreateVeth: %v, want ErrConflict", err)
	}
	l, err := in.Get(ctx, "eth0")
	if err != nil || l.Kind != "veth" || l.MTU != 1400 || l.MAC.String() != bowline.MAC("c1").String() || l.Up {
		t.Fatalf("peer: %+v, %v", l, err)
	}
	if _, err := in.SetSysctl(ctx, "net/ipv6/conf/eth0/accept_dad", "0"); err != nil {
		t.Error(err)
	}
	if _, err := in.SetSysctl(ctx, "net/ipv4/ip_forward", "0"); err != nil { // as it is
		t.Error(err)
	}
	if _, err := in.EnsureAddr(ctx, l.Index, link.Addr{Prefix: netip.MustParsePrefix("fd00::2/64")}); err != nil {
		t.Error(err)
	}
	if err := in.Set(ctx, "eth0", link.Change{Up: true}); err != nil {
		t.Error(err)
	}
	route := bowline.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1"), MTU: 1300, Priority: 5}
	if _, err := in.EnsureRoute(ctx, l.Index, route); err != nil {
		t.Error(err)
	}
	if err := out.SetPortVLANs(ctx, "outer", []link.VLAN{{Min: 10, Max: 10, Untagged: true}, {Min: 20, Max: 30}}); err != nil {
		t.Error(err)
	}
	if err := out.Delete(ctx, "outer"); err != nil {
		t.Error(err)
	}
	if _, err := out.Get(ctx, "outer"); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("Get of what would be deleted: %v", err)
	}
	want := `host: ip link add br0 address ` + bowline.MAC("br0").String() + ` type bridge
host: net/ipv6/conf/br0/accept_ra=0
host: net/ipv6/conf/br0/accept_dad=0
host: ip link set br0 alias "bowline web" mtu 1400
host: ip link set br0 up
host: ip addr add 10.1.0.1/24 dev br0
host: ip link add outer mtu 1400 master br0 address ` + bowline.MAC("o").String() + ` type veth peer name eth0 mtu 1400 address ` + bowline.MAC("c1").String() + ` netns sandbox
host: ip link add ifb0 mtu 1400 type ifb
host: tc qdisc replace dev outer root tbf rate 8000000bit burst 20000 limit 70000
`
	if got := steps(); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%swant at first\n%s", got, want)
	}
	for _, line := range []string{
		"host: tc qdisc replace dev ifb0 root tbf rate 8000000bit burst 20000 limit 70000",
		"host: tc qdisc replace dev outer ingress",
		"host: tc filter add dev outer ingress matchall action mirred egress redirect dev ifb0",
		`host: ip link set outer alias "bowline c1" addrgenmode none type bridge_slave hairpin on isolated off`,
		"sandbox: net/ipv6/conf/eth0/accept_dad=0",
		"sandbox: ip addr add fd00::2/64 dev eth0 nodad",
		"sandbox: ip link set eth0 up",
		"sandbox: ip route add default via 10.1.0.1 dev eth0 metric 5 mtu 1300",
		"host: bridge vlan add dev outer vid 10 pvid untagged",
		"host: bridge vlan add dev outer vid 20-30",
		"host: bridge vlan del dev outer vid 1",
		"host: ip link del outer",
	} {
		if !strings.Contains(steps(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, steps())
		}
	}
	if strings.Contains(steps(), "ip_forward") {
		t.Errorf("a setting that is as wanted is set:\n%s", steps())
	}
	for _, ns := range []*netns.Handle{host, sandbox} {
		if names, err := openIn(t, ns).Names(ctx); err != nil || len(names) > 0 {
			t.Errorf("it was made: %v, %v", names, err)
		}
	}
}

// What is there is taken as it is; a sandbox that is none has nothing.
func TestDryThere(t *testing.T) {
	t.Parallel()
	host, sandbox := netnstest.New(t), netnstest.New(t)
	br := bridgeWithVeth(t, openIn(t, host), sandbox, nil)
	_, out, steps := dryOf(t, host, sandbox, false)
	if got, made, err := out.EnsureBridge(t.Context(), link.Bridge{Name: "br0"}); err != nil || made || got.Index != br.Index {
		t.Errorf("EnsureBridge of one that is there: %+v, %v, %v", got, made, err)
	}
	if err := out.CreateVeth(t.Context(), link.Veth{Name: "other", Peer: "eth0", PeerNS: sandbox}); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("peer of a name that is taken: %v", err)
	}
	if err := out.Set(t.Context(), "br0", link.Change{MTU: 1300, Down: true}); err != nil {
		t.Error(err)
	}
	if got, err := out.Get(t.Context(), "br0"); err != nil || got.MTU != 1300 || got.Up {
		t.Errorf("br0 after it would be changed: %+v, %v", got, err)
	}
	if same, err := out.IsVeth(t.Context(), link.Veth{Name: "outer", Alias: "bowline web c1", Peer: "eth0", PeerMAC: bowline.MAC("c1"), PeerNS: sandbox}); err != nil || !same {
		t.Errorf("IsVeth: %v, %v", same, err)
	}
	if err := out.Delete(t.Context(), "outer", "nobody"); err != nil {
		t.Error(err)
	}
	if want := "host: ip link set br0 mtu 1300\nhost: ip link set br0 down\nhost: ip link del outer\n"; steps() != want {
		t.Errorf("got\n%swant\n%s", steps(), want)
	}
	in, _, _ := dryOf(t, host, sandbox, true)
	if names, err := in.Names(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("an empty sandbox has %v, %v", names, err)
	}
	if got, err := openIn(t, host).Get(t.Context(), "br0"); err != nil || got.MTU != 1400 || !got.Up {
		t.Errorf("br0 was changed: %+v, %v", got, err)
	}
}
