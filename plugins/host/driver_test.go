package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/state"
)

// A bench is a host with the link nic0, whose other end is in a machine beyond.
type bench struct {
	t      *testing.T
	ns     *netns.Handle
	beyond *netns.Handle
	dir    string
	d      *driver
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, ns: netnstest.New(t), beyond: netnstest.New(t), dir: t.TempDir()}
	b.cable("nic0")
	b.run("ip addr add 192.0.2.2/24 dev nic0",
		"ip addr add 2001:db8::2/64 dev nic0 nodad",
		"ip route add 203.0.113.0/24 via 192.0.2.1",
		"ip -6 route add 2001:db8:9::/48 via 2001:db8::1")
	b.eventually("the address gets its route", func() bool { // some time after it was given
		return strings.Contains(b.run("ip -6 route show table local"), "local 2001:db8::2 ")
	})
	d, err := newDriver(b.ns, b.loans())
	if err != nil {
		t.Fatal(err)
	}
	b.d = d
	t.Cleanup(func() {
		pins, _ := filepath.Glob(b.dir + "/pins/*")
		for _, p := range pins {
			netns.Remove(p)
		}
	})
	return b
}

func (b *bench) loans() loans {
	return loans{state.Store{Dir: b.dir + "/loans"}, b.dir + "/pins"}
}

// cable makes a link of the host that is up and leads to the machine beyond.
func (b *bench) cable(name string) {
	b.t.Helper()
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.beyond.Fd())
	b.run("ip link add "+name+" type veth peer name far-"+name+" netns "+path, "ip link set "+name+" mtu 1400 up")
	netnstest.Command(b.t, b.beyond, "ip", "link", "set", "far-"+name, "up")
}

func (b *bench) run(lines ...string) (out string) {
	b.t.Helper()
	for _, l := range lines {
		out = netnstest.Command(b.t, b.ns, strings.Fields(l)...)
	}
	return out
}

// sandbox makes a namespace that ends when its mount does, unless it is pinned.
func (b *bench) sandbox(name string) (h *netns.Handle, end func()) {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	h, err := netns.NewAt(path)
	if err != nil {
		b.t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			h.Close()
			if err := netns.Remove(path); err != nil {
				b.t.Error(err)
			}
		}
	}
	b.t.Cleanup(end)
	return h, end
}

// state is all that the driver may change on the host, and its records.
func (b *bench) state() string {
	b.t.Helper()
	var left []string
	_ = filepath.WalkDir(b.dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(p, ".lock-") {
			left = append(left, p)
		}
		return nil
	})
	return drivertest.Snapshot(b.t, b.ns) + "# records\n" + strings.Join(left, "\n") + "# sysctl\n" +
		netnstest.Command(b.t, b.ns, "sh", "-c", "sysctl -e net.ipv4.conf.nic0.rp_filter net.ipv6.conf.nic0.accept_ra || true") // it may be away
}

// same waits for what the kernel does a little later, and fails if it is not as
// before then.
func (b *bench) same(what, before string) {
	b.t.Helper()
	var after string
	for tick, end := time.NewTicker(20*time.Millisecond), time.Now().Add(3*time.Second); ; <-tick.C {
		if after = b.state(); after == before {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s: the host is not as it was\nbefore:\n%s\nafter:\n%s", what, before, after)
		}
	}
}

func (b *bench) eventually(what string, f func() bool) {
	b.t.Helper()
	for tick, end := time.NewTicker(20*time.Millisecond), time.Now().Add(3*time.Second); !f(); <-tick.C {
		if time.Now().After(end) {
			b.t.Fatalf("not after three seconds: %s", what)
		}
	}
}

func network(options ...string) bowline.NetworkConfig {
	n := bowline.NetworkConfig{ID: "lan", Options: map[string]string{}}
	for i := 0; i < len(options); i += 2 {
		n.Options[options[i]] = options[i+1]
	}
	return n
}

func endpointIn(id string, sandbox bowline.Namespace) bowline.EndpointSpec {
	return bowline.EndpointSpec{ID: id + "/eth0", IfName: "eth0", Sandbox: sandbox}
}

func (b *bench) attach(n bowline.NetworkConfig, e bowline.EndpointSpec) bowline.Attachment {
	b.t.Helper()
	a, err := b.d.CreateEndpoint(b.t.Context(), n, e)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *bench) detach(n bowline.NetworkConfig, id string) {
	b.t.Helper()
	if err := b.d.DeleteEndpoint(b.t.Context(), n, bowline.EndpointSpec{ID: id + "/eth0"}); err != nil {
		b.t.Fatal(err)
	}
}

// The NIC goes into the sandbox with what it is, and comes back with what it had.
func TestLendAndTakeBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("ip link set nic0 alias uplink", "sysctl -qw net.ipv4.conf.nic0.rp_filter=2")
	before := b.state()
	box, _ := b.sandbox("one")
	n, e := network("device", "nic0"), endpointIn("one", box)
	a := b.attach(n, e)
	if a.Link != "eth0" || a.MTU != 1400 || len(a.MAC) != 6 || len(a.Addrs) != 2 || len(a.Routes) != 2 || len(a.Gateways) != 0 {
		t.Errorf("attachment is %+v", a)
	}
	if got := netnstest.Command(t, box, "ip", "-o", "link", "show", "eth0"); !strings.Contains(got, "alias bowline device nic0 lan/one/eth0") {
		t.Errorf("inside there is %s", got)
	}
	if again := b.attach(n, e); fmt.Sprint(again) != fmt.Sprint(a) {
		t.Errorf("the same again is %+v, was %+v", again, a)
	}
	if err := b.d.CheckEndpoint(t.Context(), n, e); err != nil {
		t.Errorf("CheckEndpoint: %v", err)
	}
	for range 2 {
		b.detach(n, "one")
		b.same("after DeleteEndpoint", before)
	}
	if got := netnstest.Command(t, box, "ip", "-o", "link"); strings.Contains(got, "eth0") {
		t.Errorf("the sandbox still has %s", got)
	}
}

// What the container has done to it, and what was asked for it, is undone.
func TestTakeBackChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.state()
	box, _ := b.sandbox("one")
	n, e := network("device", "nic0", "mtu", "1300"), endpointIn("one", box)
	e.MAC = bowline.MAC("asked")
	e.Addrs = []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}
	if a := b.attach(n, e); a.MTU != 1300 || a.MAC.String() != e.MAC.String() || len(a.Addrs) != 1 || !a.Shared {
		t.Errorf("attachment is %+v", a)
	}
	for _, line := range []string{"ip link set eth0 address 02:00:00:00:00:77 mtu 1290 up", "ip addr add 10.1.0.2/24 dev eth0", "ip link set eth0 down", "ip link set eth0 name other0", "ip link add nic0 type veth"} {
		netnstest.Command(t, box, strings.Fields(line)...)
	}
	if err := b.d.CheckEndpoint(t.Context(), n, e); !errors.Is(err, bowline.ErrDiffers) || !strings.Contains(err.Error(), "other0 has name other0, want eth0") {
		t.Errorf("CheckEndpoint: %v", err)
	}
	b.detach(n, "one")
	b.same("after DeleteEndpoint", before)
}

// A sandbox that is gone takes no NIC along: its namespace was pinned.
func TestSandboxGone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.state()
	n := network("device", "nic0")
	for name, back := range map[string]func() error{
		"DEL": func() error { b.detach(n, "one"); return nil },
		"GC":  func() error { return b.d.Prune(t.Context(), n, []string{"two/eth0"}) },
		"repair": func() error {
			places, err := b.d.Reclaim(t.Context())
			if len(places) != 1 || places[0].Endpoint.ID != "one/eth0" {
				t.Errorf("Reclaim returns %+v", places)
			}
			return err
		},
	} {
		box, end := b.sandbox("one")
		b.attach(n, endpointIn("one", box))
		if places, err := b.d.Reclaim(t.Context()); err != nil || len(places) != 0 {
			t.Errorf("Reclaim of a sandbox that lives: %v, %v", places, err)
		}
		if err := b.d.Prune(t.Context(), n, []string{"one/eth0"}); err != nil {
			t.Error(err)
		}
		if err := b.d.CheckEndpoint(t.Context(), n, endpointIn("one", box)); err != nil {
			t.Errorf("after what spares it: %v", err)
		}
		end()
		if err := back(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.same("after "+name, before)
	}
}

// Whatever step fails, the host is as it was; and what fails on the way back is
// done the next time.
func TestFailAtEachStep(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.state()
	box, _ := b.sandbox("one")
	n, e := network("device", "nic0", "mtu", "1300"), endpointIn("one", box)
	steps := 0
	for ; ; steps++ {
		_, err := b.d.CreateEndpoint(netnstest.FailAfter(t.Context(), steps), n, e)
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("step %d: %v", steps, err)
		}
		b.same(fmt.Sprintf("CreateEndpoint broken at step %d", steps), before)
	}
	if steps < 10 {
		t.Errorf("CreateEndpoint has %d steps: some ask no context", steps)
	}
	for steps = 0; ; steps++ {
		err := b.d.DeleteEndpoint(netnstest.FailAfter(t.Context(), steps), n, bowline.EndpointSpec{ID: e.ID})
		if err == nil {
			b.same("after DeleteEndpoint", before)
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("step %d: %v", steps, err)
		}
		b.detach(n, "one")
		b.same(fmt.Sprintf("DeleteEndpoint broken at step %d and done again", steps), before)
		b.attach(n, e)
	}
	if steps < 10 {
		t.Errorf("DeleteEndpoint has %d steps: some ask no context", steps)
	}
}
