package link_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// parentOf makes a parent in a host of the test's own.
func parentOf(t *testing.T) (host *netns.Handle, h *link.Handle, parent link.Info) {
	t.Helper()
	host = netnstest.New(t)
	netnstest.Command(t, host, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "lan0")
	netnstest.Command(t, host, "ip", "link", "set", "up0", "up")
	netnstest.Command(t, host, "ip", "link", "set", "lan0", "up")
	h = openIn(t, host)
	parent, err := h.Get(t.Context(), "up0")
	if err != nil {
		t.Fatal(err)
	}
	return host, h, parent
}

func mac(t *testing.T, s string) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMacvlanModes(t *testing.T) {
	t.Parallel()
	for _, mode := range link.Modes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			_, h, parent := parentOf(t)
			sandbox := netnstest.New(t)
			in := openIn(t, sandbox)
			v := link.Macvlan{Name: "eth0", Parent: parent.Index, Mode: mode, Alias: "mine", MTU: 1400, BCQueueLen: 500}
			if v.MAC = mac(t, "02:00:00:00:00:09"); mode == link.ModePassthru {
				v.MAC = nil
			}
			if mode == link.ModeSource {
				v.Sources = []net.HardwareAddr{mac(t, "02:00:00:00:00:01"), mac(t, "02:00:00:00:00:02")}
			}
			if err := h.CreateMacvlan(t.Context(), in, v); err != nil {
				t.Fatal(err)
			}
			got, err := in.See(t.Context(), "eth0")
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != "macvlan" || got.Mode != mode || got.Alias != "mine" || got.MTU != 1400 || got.Parent != parent.Index || got.BCQueueLen != 500 || got.Up {
				t.Errorf("link is %+v, asked for %+v", got, v)
			}
			if want := v.MAC; mode != link.ModePassthru && got.MAC.String() != want.String() || mode == link.ModePassthru && got.MAC.String() != parent.MAC.String() {
				t.Errorf("MAC is %s, want %s or that of the parent %s", got.MAC, want, parent.MAC)
			}
			sorted := func(ms []net.HardwareAddr) (all []string) {
				for _, m := range ms {
					all = append(all, m.String())
				}
				slices.Sort(all)
				return all
			}
			if !slices.Equal(sorted(got.Sources), sorted(v.Sources)) {
				t.Errorf("sources are %v, want %v", got.Sources, v.Sources)
			}
			if err := h.CreateMacvlan(t.Context(), in, v); !errors.Is(err, bowline.ErrConflict) {
				t.Errorf("again: %v, want ErrConflict", err)
			}
		})
	}
}

// TestMacvlanAlone: a link in mode passthru has its parent alone.
func TestMacvlanAlone(t *testing.T) {
	t.Parallel()
	_, h, parent := parentOf(t)
	in := openIn(t, netnstest.New(t))
	for i, mode := range []string{link.ModeBridge, link.ModePassthru} {
		v := link.Macvlan{Name: []string{"a", "b"}[i], Parent: parent.Index, Mode: mode}
		err := h.CreateMacvlan(t.Context(), in, v)
		if i == 0 && err != nil || i == 1 && !errors.Is(err, bowline.ErrConflict) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if names, _ := in.Names(t.Context()); !slices.Equal(names, []string{"a"}) {
		t.Errorf("links are %v", names)
	}
}

// TestMacvlanFails: after an error both namespaces are as they were.
func TestMacvlanFails(t *testing.T) {
	t.Parallel()
	_, h, parent := parentOf(t)
	in := openIn(t, netnstest.New(t))
	bad := link.Macvlan{Name: "eth0", Parent: parent.Index, Mode: link.ModeBridge, Alias: strings.Repeat("x", 300)}
	if err := h.CreateMacvlan(t.Context(), in, bad); err == nil {
		t.Error("an alias of 300 bytes was taken")
	}
	if names, _ := in.Names(t.Context()); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	if err := h.CreateMacvlan(t.Context(), in, link.Macvlan{Name: "eth0", Parent: 4242, Mode: link.ModeBridge}); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("without a parent: %v, want ErrUnknown", err)
	}
}

func TestEverywhere(t *testing.T) {
	t.Parallel()
	_, h, parent := parentOf(t)
	want := map[string]bool{}
	var sandboxes []*netns.Handle
	for _, name := range []string{"one", "two", "three"} {
		ns := netnstest.New(t)
		sandboxes = append(sandboxes, ns)
		if err := h.CreateMacvlan(t.Context(), openIn(t, ns), link.Macvlan{Name: "eth0", Parent: parent.Index, Mode: link.ModeBridge, Alias: name}); err != nil {
			t.Fatal(err)
		}
		want[name] = true
	}
	if err := h.CreateMacvlan(t.Context(), h, link.Macvlan{Name: "here", Parent: parent.Index, Mode: link.ModeBridge, Alias: "here"}); err != nil {
		t.Fatal(err)
	}
	want["here"] = true
	all, err := h.Everywhere(t.Context(), "macvlan")
	if err != nil || len(all) != len(want) {
		t.Fatalf("Everywhere: %+v, %v; want %v", all, err, want)
	}
	for _, l := range all {
		if !want[l.Alias] || l.Parent != parent.Index || (l.NS == link.Here) != (l.Alias == "here") || (l.Peer < 0) != (l.Alias == "here") {
			t.Errorf("found %+v", l)
		}
		if err := h.DeleteElsewhere(t.Context(), l); err != nil {
			t.Error(err)
		}
		if err := h.DeleteElsewhere(t.Context(), l); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	for _, ns := range sandboxes {
		if names, _ := openIn(t, ns).Names(t.Context()); len(names) > 0 {
			t.Errorf("left in a sandbox: %v", names)
		}
	}
	id, err := h.Identify(t.Context(), sandboxes[0])
	again, err2 := h.Identify(t.Context(), sandboxes[0])
	if err != nil || err2 != nil || id < 0 || id != again {
		t.Errorf("Identify: %d, %v, then %d, %v", id, err, again, err2)
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	host, h, parent := parentOf(t)
	netnstest.Command(t, host, "ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
	if err := h.CreateMacvlan(t.Context(), h, link.Macvlan{Name: "shim", Parent: parent.Index, Mode: link.ModeBridge, Quiet: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.Set(t.Context(), "shim", link.Change{NoLinkLocal: true, Up: true}); err != nil {
		t.Fatal(err)
	}
	shim, err := h.Get(t.Context(), "shim")
	if err != nil {
		t.Fatal(err)
	}
	ps := []link.Peer{
		{Addr: netip.MustParseAddr("192.0.2.7"), MAC: mac(t, "02:00:00:00:00:07"), Src: netip.MustParseAddr("192.0.2.1")},
		{Addr: netip.MustParseAddr("fd00::7"), MAC: mac(t, "02:00:00:00:00:07")},
	}
	// Of the parent the kernel makes an IPv6 route some time after it is up.
	state := func() string {
		return netnstest.Command(t, host, "ip", "route") + netnstest.Command(t, host, "ip", "-6", "route", "show", "dev", "shim") + netnstest.Command(t, host, "ip", "neigh")
	}
	before := state()
	for range 2 {
		for _, p := range ps {
			if err := h.EnsurePeer(t.Context(), shim.Index, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	have, err := h.Peers(t.Context(), shim.Index)
	if err != nil || len(have) != 2 {
		t.Fatalf("Peers: %v, %v", have, err)
	}
	for _, p := range ps {
		if got := have[p.Addr]; got.MAC.String() != p.MAC.String() || got.Src != p.Src || got.Part {
			t.Errorf("peer is %+v, want %+v", got, p)
		}
	}
	if got := netnstest.Command(t, host, "ip", "route", "get", "192.0.2.7"); !strings.Contains(got, "dev shim src 192.0.2.1") {
		t.Errorf("the way there: %s", got)
	}
	// What somebody, or a kill, took one half of is still told.
	netnstest.Command(t, host, "ip", "route", "del", "192.0.2.7")
	netnstest.Command(t, host, "ip", "neigh", "del", "fd00::7", "dev", "shim")
	have, err = h.Peers(t.Context(), shim.Index)
	if err != nil || len(have) != 2 {
		t.Fatalf("Peers: %v, %v", have, err)
	}
	for i, p := range ps {
		if got := have[p.Addr]; !got.Part || (i == 0) != (got.MAC.String() == p.MAC.String()) {
			t.Errorf("half a peer is %+v", got)
		}
	}
	for range 2 {
		for _, p := range ps {
			if err := h.DeletePeer(t.Context(), shim.Index, p.Addr); err != nil {
				t.Fatal(err)
			}
		}
	}
	if after := state(); after != before {
		t.Errorf("it is not as it was\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestDot1Q: a kernel that has 802.1Q makes the link, another one says so.
func TestDot1Q(t *testing.T) {
	t.Parallel()
	_, h, parent := parentOf(t)
	v := link.Dot1Q{Name: "up0.10", Parent: parent.Index, VLAN: 10, Alias: "mine"}
	l, made, err := h.EnsureDot1Q(t.Context(), v)
	if probe := openIn(t, netnstest.New(t)).Probe(t.Context(), "vlan"); probe != nil {
		if !errors.Is(err, bowline.ErrNoKernel) || made {
			t.Errorf("without 802.1Q (%v): %v, %v; want ErrNoKernel", probe, made, err)
		}
		if os.Getenv("BOWLINE_TEST_VM") != "" {
			t.Error("the VM's kernel should have it")
		}
		return
	}
	if err != nil || !made || l.Kind != "vlan" || !l.Up || l.Alias != "mine" {
		t.Fatalf("EnsureDot1Q: %+v, %v, %v", l, made, err)
	}
	if _, made, err := h.EnsureDot1Q(t.Context(), v); made || err != nil {
		t.Errorf("again: %v, %v", made, err)
	}
}

// TestGoneElsewhere: a link that went with its namespace is gone, whoever waits
// for its end.
func TestGoneElsewhere(t *testing.T) {
	t.Parallel()
	_, h, parent := parentOf(t)
	for _, detach := range []bool{false, true} {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		in, err := link.Open(ns)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.CreateMacvlan(t.Context(), in, link.Macvlan{Name: "eth0", Parent: parent.Index, Mode: link.ModeBridge, Alias: "one"}); err != nil {
			t.Fatal(err)
		}
		all, err := h.Everywhere(t.Context(), "macvlan")
		if err != nil || len(all) != 1 {
			t.Fatalf("Everywhere: %+v, %v", all, err)
		}
		in.Close()
		ns.Close()
		h.Detach = detach
		if err := h.DeleteElsewhere(t.Context(), all[0]); err != nil {
			t.Errorf("DeleteElsewhere, detach %v: %v", detach, err)
		}
		h.Detach = false
	}
}
