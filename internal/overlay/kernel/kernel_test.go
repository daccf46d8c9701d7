package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/overlay"
	"github.com/bowline-net/bowline/internal/overlay/kernel"
)

// ping sends one packet, which has no time to be sent again.
func ping(ns *netns.Handle, to string, more ...string) (out string, err error) {
	err = netns.Do(ns, func() error {
		b, err := exec.Command("ping", append([]string{"-n", "-c1", "-W1", to}, more...)...).CombinedOutput()
		out = string(b)
		return err
	})
	return out, err
}

func reach(t *testing.T, from *netns.Handle, to kernel.Endpoint) {
	t.Helper()
	for _, a := range to.Addrs {
		if out, err := ping(from, a.Addr().String()); err != nil {
			t.Errorf("%s is not reached: %s", a.Addr(), out)
		}
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4 underlay", true: "IPv6 underlay"}[v6], func(t *testing.T) {
			t.Parallel()
			all := hosts(t, 3, v6)
			mtu := applyAll(t, all, blue())
			if want := map[bool]int{false: 1450, true: 1430}[v6]; mtu != want {
				t.Errorf("MTU is %d, want %d", mtu, want)
			}
			var there []kernel.Endpoint
			var sandboxes []*netns.Handle
			for i, h := range all {
				for nr := 5; nr < 7; nr++ {
					e, ns := container(t, i, nr)
					if made, err := h.Attach(t.Context(), blue(), mtu, e); err != nil || !made {
						t.Fatal(made, err)
					}
					for j := range there { // at once, both ways
						reach(t, ns, there[j])
						reach(t, sandboxes[j], e)
					}
					there, sandboxes = append(there, e), append(sandboxes, ns)
					if made, err := h.Attach(t.Context(), blue(), mtu, e); err != nil || made {
						t.Errorf("attached again: %v, %v", made, err)
					}
				}
			}
			if out, err := ping(sandboxes[0], "10.1.200.1"); err == nil {
				t.Errorf("an address that nobody has answers: %s", out)
			}
			fits(t, sandboxes[0], there[5], mtu)
			remove(t, all, there)
		})
	}
}

// fits checks that a packet of the MTU passes, and that the network says of a
// larger one that it is too big, to a container whose link takes it.
func fits(t *testing.T, from *netns.Handle, to kernel.Endpoint, mtu int) {
	t.Helper()
	for i, headers := range []int{28, 48} {
		a := to.Addrs[i].Addr().String()
		if out, err := ping(from, a, "-M", "do", "-s", fmt.Sprint(mtu-headers)); err != nil {
			t.Errorf("%d bytes to %s: %s", mtu, a, out)
		}
	}
	netnstest.Command(t, from, "ip", "link", "set", "eth0", "mtu", "1500")
	for i, headers := range []int{28, 48} {
		out, err := ping(from, to.Addrs[i].Addr().String(), "-M", "do", "-s", fmt.Sprint(mtu+1-headers))
		if err == nil || !strings.Contains(out, "too long") && !strings.Contains(out, "too big") && !strings.Contains(out, "mtu") {
			t.Errorf("%d bytes to %s: %s", mtu+1, to.Addrs[i], out)
		}
	}
}

// remove detaches and deletes all and looks for what is left.
func remove(t *testing.T, all []host, there []kernel.Endpoint) {
	t.Helper()
	for i, h := range all {
		if err := h.Detach(t.Context(), 4097, there[2*i].ID); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := h.Delete(t.Context(), 4097, overlay.Underlay{Port: 4789}); err != nil {
				t.Error(err)
			}
		}
		if left, err := h.Networks(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("networks left: %v, %v", left, err)
		}
		if out := netnstest.Command(t, h.ns, "nft", "list", "ruleset"); out != "" {
			t.Errorf("rules left:\n%s", out)
		}
		if out := netnstest.Command(t, h.ns, "ip", "-br", "link"); strings.Contains(out, "bw") || strings.Contains(out, "tunnel") {
			t.Errorf("links left:\n%s", out)
		}
	}
	for _, e := range there {
		if out := netnstest.Command(t, e.Sandbox.(*netns.Handle), "ip", "-br", "link"); strings.Contains(out, "eth0") {
			t.Errorf("link left in a sandbox:\n%s", out)
		}
	}
}

// TestNetworksApart: two networks with the same subnets do not see each other.
func TestNetworksApart(t *testing.T) {
	t.Parallel()
	all := hosts(t, 2, false)
	red := blue()
	red.VNI = 4098
	mtu := applyAll(t, all, blue())
	applyAll(t, all, red)
	attach := func(h int, n overlay.Network, nr int) (kernel.Endpoint, *netns.Handle) {
		e, ns := container(t, h, nr)
		e.ID += fmt.Sprint(n.VNI)
		if _, err := all[h].Attach(t.Context(), n, mtu, e); err != nil {
			t.Fatal(err)
		}
		return e, ns
	}
	_, blueNS := attach(0, blue(), 5)
	blueFar, _ := attach(1, blue(), 6)
	redFar, _ := attach(1, red, 7)
	redNear, _ := attach(0, red, 8)
	reach(t, blueNS, blueFar)
	for _, e := range []kernel.Endpoint{redFar, redNear} {
		for _, a := range e.Addrs {
			if out, err := ping(blueNS, a.Addr().String()); err == nil {
				t.Errorf("red's %s answers blue: %s", a.Addr(), out)
			}
		}
	}
}

// stream pings until stop and returns how many went out and came back.
func stream(t *testing.T, from *netns.Handle, to string) (stop func() (sent, got int)) {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command("ping", "-n", "-q", "-i", "0.005", to)
	cmd.Stdout = &out
	if err := netns.Do(from, cmd.Start); err != nil {
		t.Fatal(err)
	}
	return func() (sent, got int) {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		m := regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`).FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("ping says %q", out.String())
		}
		fmt.Sscan(m[1], &sent)
		fmt.Sscan(m[2], &got)
		return sent, got
	}
}

// TestMend breaks one thing after the other on a host, has Apply mend it, and
// counts what a pair of bystanders on other hosts loses meanwhile.
func TestMend(t *testing.T) {
	t.Parallel()
	all := hosts(t, 3, false)
	mtu := applyAll(t, all, blue())
	var es []kernel.Endpoint
	var sandboxes []*netns.Handle
	for i, h := range all {
		e, ns := container(t, i, 5)
		if _, err := h.Attach(t.Context(), blue(), mtu, e); err != nil {
			t.Fatal(err)
		}
		es, sandboxes = append(es, e), append(sandboxes, ns)
	}
	stop := stream(t, sandboxes[1], es[2].Addrs[0].Addr().String())
	far := all[1].node
	file := filepath.Join(all[0].dir, "vni-4097")
	in := func(args ...string) func() {
		return func() {
			ns, err := netns.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			netnstest.Command(t, ns, args...)
		}
	}
	for _, tt := range []struct {
		name   string
		broken func()
	}{
		{"FDB entry", in("bridge", "fdb", "del", far.MAC().String(), "dev", "tunnel", "dst", far.VTEP.String())},
		{"FDB entry that leads elsewhere", in("bridge", "fdb", "replace", far.MAC().String(), "dev", "tunnel", "dst", "192.0.2.3")},
		{"neighbour", in("ip", "neigh", "del", far.Via().String(), "dev", "tunnel")},
		{"route", in("ip", "route", "del", "10.1.2.0/24")},
		{"route of IPv6", in("ip", "-6", "route", "del", "fd01::2:0/112")},
		{"tunnel down", in("ip", "link", "set", "tunnel", "down")},
		{"tunnel", in("ip", "link", "del", "tunnel")},
		{"endpoint", in("ip", "link", "del", "dev", outer(es[0]))},
		{"endpoint down", in("ip", "link", "set", outer(es[0]), "down")},
		{"route to the container", in("ip", "route", "del", "10.1.1.5")},
		{"answers", in("nft", "delete", "table", "netdev", "bowline")},
		{"senders", func() { netnstest.Command(t, all[0].ns, "nft", "flush", "set", "inet", "bowline", "tunnel-peer4") }},
		{"rules", func() { netnstest.Command(t, all[0].ns, "nft", "delete", "table", "inet", "bowline") }},
		{"namespace", func() {
			if err := netns.Remove(file); err != nil {
				t.Fatal(err)
			}
			gone(t, sandboxes[0])
		}},
	} {
		tt.broken()
		r, err := all[0].Apply(t.Context(), viewOf(all, 0, blue()), es[:1], overlay.DefaultBrake(nil))
		if err != nil || !r.Changed() {
			t.Fatalf("%s: Apply reports %+v, %v", tt.name, r, err)
		}
		reach(t, sandboxes[0], es[1])
		reach(t, sandboxes[1], es[0])
		if r, err := all[0].Apply(t.Context(), viewOf(all, 0, blue()), es[:1], overlay.DefaultBrake(nil)); err != nil || r.Changed() {
			t.Errorf("%s: Apply again reports %+v, %v", tt.name, r, err)
		}
		if t.Failed() {
			t.Fatalf("%s is not mended", tt.name)
		}
	}
	sent, got := stop()
	t.Logf("bystanders: %d sent, %d received", sent, got)
	if sent < 20 || sent-got > 0 {
		t.Errorf("bystanders lost %d of %d", sent-got, sent)
	}
}

func outer(e kernel.Endpoint) string { return bowline.LinkName("bwo", e.ID) }

// gone waits until the sandbox has lost its link.
func gone(t *testing.T, ns *netns.Handle) {
	t.Helper()
	h, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	err = h.WaitLinks(t.Context(), func(all []link.Info) bool { return len(all) == 1 })
	if err != nil {
		t.Fatal(err)
	}
}

// TestSpoof sends by a host that is none of the network's nodes.
func TestSpoof(t *testing.T) {
	t.Parallel()
	all := hosts(t, 3, false)
	nodes, stranger := all[:2], all[2]
	mtu := applyAll(t, nodes, blue())
	e, _ := container(t, 0, 5)
	if _, err := nodes[0].Attach(t.Context(), blue(), mtu, e); err != nil {
		t.Fatal(err)
	}
	// The stranger says that it is node 1 in all but its outer address, and node 0
	// would send answers to it if it let it in.
	evil := viewOf(all, 2, blue())
	if _, err := stranger.Apply(t.Context(), evil, nil, overlay.DefaultBrake(nil)); err != nil {
		t.Fatal(err)
	}
	f, fns := container(t, 2, 6)
	if _, err := stranger.Attach(t.Context(), blue(), mtu, f); err != nil {
		t.Fatal(err)
	}
	packets := func() string {
		in, err := netns.Open(filepath.Join(nodes[0].dir, "vni-4097"))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out := netnstest.Command(t, in, "ip", "-s", "-j", "link", "show", "tunnel")
		return regexp.MustCompile(`"rx":\{"bytes":(\d+)`).FindString(out)
	}
	before := packets()
	if out, err := ping(fns, e.Addrs[0].Addr().String()); err == nil {
		t.Errorf("a stranger is answered: %s", out)
	}
	if after := packets(); after != before || before == "" {
		t.Errorf("the tunnel took what a stranger sent: %s, before %s", after, before)
	}
	// Once it is a node it gets in: what kept it out was the check.
	if _, err := nodes[0].Apply(t.Context(), viewOf(all, 0, blue()), nil, overlay.DefaultBrake(nil)); err != nil {
		t.Fatal(err)
	}
	reach(t, fns, e)
}

// TestMany programs a thousand blocks of fifty nodes.
func TestMany(t *testing.T) {
	t.Parallel()
	all := hosts(t, 1, false)
	v := viewOf(all, 0, blue())
	for i := range 50 {
		n := overlay.Node{ID: fmt.Sprint("far", i), VTEP: netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})}
		v.Nodes = append(v.Nodes, n)
		for j := range 20 {
			nr := 256 + i*20 + j
			v.Blocks = append(v.Blocks, overlay.Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(nr >> 4), byte(nr << 4)}), 28), Node: n.ID})
		}
	}
	start := time.Now()
	r, err := all[0].Apply(t.Context(), v, nil, overlay.DefaultBrake(nil))
	if err != nil || r.Put != 1000+2+50+50 || len(r.Skipped) > 0 {
		t.Fatalf("Apply: %d entries put, %v", r.Put, err)
	}
	t.Logf("1000 blocks on 50 nodes applied in %v", time.Since(start))
	if r, err = all[0].Apply(t.Context(), v, nil, overlay.DefaultBrake(nil)); err != nil || r.Changed() {
		t.Errorf("Apply again: %+v, %v", r, err)
	}
	v.Blocks = v.Blocks[:2]
	if r, err = all[0].Apply(t.Context(), v, nil, overlay.DefaultBrake(nil)); err != nil || r.Held == nil || r.Changed() {
		t.Errorf("with an emptied store Apply reports %+v, %v; want that it holds all", r, err)
	}
	if r, err = all[0].Apply(t.Context(), v, nil, overlay.Brake{Share: 100}); err != nil || r.Held != nil || r.Drop != 1100 {
		t.Errorf("without a brake Apply drops %d, %v", r.Drop, err)
	}
}

// TestNoDuplicates: whoever asks whether an address is free hears nothing, though
// whoever asks where it is does.
func TestNoDuplicates(t *testing.T) {
	t.Parallel()
	all := hosts(t, 1, false)
	mtu := applyAll(t, all, blue())
	e, ns := container(t, 0, 5)
	if _, err := all[0].Attach(t.Context(), blue(), mtu, e); err != nil {
		t.Fatal(err)
	}
	in, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	eth0, err := in.Get(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	free := netip.MustParsePrefix("fd01::77/64")
	if _, err := in.EnsureAddr(t.Context(), eth0.Index, link.Addr{Prefix: free, DAD: true}); err != nil {
		t.Fatal(err)
	}
	if err := in.WaitDAD(t.Context(), eth0.Index, 20*time.Second); err != nil {
		t.Errorf("a free address: %v", err)
	}
	if out := netnstest.Command(t, ns, "ip", "-6", "addr", "show", "dev", "eth0"); strings.Contains(out, "dadfailed") || !strings.Contains(out, "fd01::77") {
		t.Errorf("a free address is taken for a duplicate: %s", out)
	}
	if err := in.DeleteAddr(t.Context(), eth0.Index, free); err != nil { // else it may be the sender
		t.Fatal(err)
	}
	reach(t, ns, kernel.Endpoint{Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("fd01::1/64")}})
}
