package link_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/plan"
)

// A lan is a sandbox with a link of some kind and a neighbour, who has
// 10.1.0.2 and fd00:1::2 at link lan0 with the MAC 02:00:00:00:00:02.
type lan struct {
	sandbox, neighbour *netns.Handle
}

// kinds make the link eth0 in the sandbox, which a neighbour's lan0 is beside.
func kinds() map[string]func(t *testing.T, l lan) {
	return map[string]func(t *testing.T, l lan){
		"veth": func(t *testing.T, l lan) {
			ip(t, l.sandbox, "link add eth0 type veth peer name lan0")
			move(t, l.sandbox, "lan0", l.neighbour)
		},
		"bridge": func(t *testing.T, l lan) {
			host := netnstest.New(t)
			ip(t, host, "link add br0 type bridge")
			for name, ns := range map[string]*netns.Handle{"eth0": l.sandbox, "lan0": l.neighbour} {
				ip(t, host, "link add port-%s type veth peer name %s", name, name)
				move(t, host, name, ns)
				ip(t, host, "link set port-%s master br0 up", name)
			}
			ip(t, host, "link set br0 up")
		},
		"macvlan": func(t *testing.T, l lan) {
			host := netnstest.New(t)
			ip(t, host, "link add nic0 type veth peer name lan0")
			move(t, host, "lan0", l.neighbour)
			ip(t, host, "link set nic0 up")
			ip(t, host, "link add eth0 link nic0 type macvlan mode bridge")
			move(t, host, "eth0", l.sandbox)
		},
		"macvlan beside a macvlan": func(t *testing.T, l lan) {
			host := netnstest.New(t)
			ip(t, host, "link add nic0 type veth peer name other")
			ip(t, host, "link set nic0 up")
			ip(t, host, "link set other up")
			for name, ns := range map[string]*netns.Handle{"eth0": l.sandbox, "lan0": l.neighbour} {
				ip(t, host, "link add %s link nic0 type macvlan mode bridge", name)
				move(t, host, name, ns)
			}
		},
	}
}

func ip(t testing.TB, ns *netns.Handle, format string, args ...any) {
	t.Helper()
	netnstest.Command(t, ns, append([]string{"ip"}, strings.Fields(fmt.Sprintf(format, args...))...)...)
}

// move tests Move by the way.
func move(t testing.TB, from *netns.Handle, name string, to *netns.Handle) {
	t.Helper()
	if err := openIn(t, from).Move(t.Context(), name, to); err != nil {
		t.Fatal(err)
	}
}

func newLAN(t *testing.T, kind string) (l lan, h *link.Handle, eth0 link.Info) {
	t.Helper()
	l = lan{netnstest.New(t), netnstest.New(t)}
	kinds()[kind](t, l)
	ip(t, l.neighbour, "link set lan0 address 02:00:00:00:00:02 up")
	ip(t, l.neighbour, "addr add 10.1.0.2/24 dev lan0")
	ip(t, l.neighbour, "addr add fd00:1::2/64 dev lan0 nodad")
	h = openIn(t, l.sandbox)
	if err := h.Set(t.Context(), "eth0", link.Change{Up: true}); err != nil {
		t.Fatal(err)
	}
	eth0, err := h.Get(t.Context(), "eth0")
	if err != nil {
		t.Fatal(err)
	}
	return l, h, eth0
}

func addrs(texts ...string) (as []netip.Addr) {
	for _, text := range texts {
		as = append(as, netip.MustParseAddr(text))
	}
	return as
}

const (
	patience = 30 * time.Second // of what ends early
	brief    = 100 * time.Millisecond
)

func TestConflicts(t *testing.T) {
	t.Parallel()
	for kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			_, h, eth0 := newLAN(t, kind)
			for _, tt := range []struct {
				name   string
				within time.Duration
				ask    []netip.Addr
				want   string
			}{
				{"both", patience, addrs("10.1.0.2", "fd00:1::2"), "map[10.1.0.2:02:00:00:00:00:02 fd00:1::2:02:00:00:00:00:02]"},
				{"IPv4", patience, addrs("10.1.0.2"), "map[10.1.0.2:02:00:00:00:00:02]"},
				{"IPv6", patience, addrs("fd00:1::2"), "map[fd00:1::2:02:00:00:00:00:02]"},
				{"one of them", brief, addrs("10.1.0.3", "10.1.0.2", "fd00:1::3"), "map[10.1.0.2:02:00:00:00:00:02]"},
				{"none", brief, addrs("10.1.0.3", "fd00:1::3"), "map[]"},
				{"nothing asked", brief, nil, "map[]"},
			} {
				got, err := h.Conflicts(t.Context(), eth0, tt.within, tt.ask...)
				if err != nil || fmt.Sprint(got) != tt.want {
					t.Errorf("%s: %v, %v; want %s", tt.name, got, err, tt.want)
				}
			}
		})
	}
}

// TestConflictsWithoutIPv6: where the sandbox has IPv6 off, addresses are probed
// all the same.
func TestConflictsWithoutIPv6(t *testing.T) {
	t.Parallel()
	_, h, eth0 := newLAN(t, "macvlan")
	if _, err := h.SetSysctl(t.Context(), "net/ipv6/conf/eth0/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Conflicts(t.Context(), eth0, patience, addrs("fd00:1::2")...); err != nil || len(got) != 1 {
		t.Errorf("%v, %v; want one", got, err)
	}
}

// TestConflictsTakeTheirTime: who answers late is heard too, so without an answer
// it takes as long as was given.
func TestConflictsTakeTheirTime(t *testing.T) {
	t.Parallel()
	_, h, eth0 := newLAN(t, "veth")
	start := time.Now()
	if got, err := h.Conflicts(t.Context(), eth0, brief, addrs("10.1.0.9", "fd00:1::9")...); err != nil || len(got) > 0 {
		t.Errorf("%v, %v; want none", got, err)
	}
	if took := time.Since(start); took < brief {
		t.Errorf("it took %v, want %v", took, brief)
	}
}

// TestConflictsBeside: once somebody who is known to be there has answered, it is
// clear how long to wait for others.
func TestConflictsBeside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ known, ask, want string }{
		{"10.1.0.2", "10.1.0.9", "map[]"},
		{"fd00:1::2", "10.1.0.9", "map[]"}, // of the other family, on the same L2
		{"10.1.0.2", "fd00:1::9", "map[]"},
		{"10.1.0.2", "10.1.0.3", "map[10.1.0.3:02:00:00:00:00:02]"},
	} {
		l, h, eth0 := newLAN(t, "veth")
		ip(t, l.neighbour, "addr add 10.1.0.3/24 dev lan0")
		start := time.Now()
		got, err := h.ConflictsBeside(t.Context(), eth0, time.Minute, addrs(tt.known), addrs(tt.ask)...)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%+v: %v, %v", tt, got, err)
		}
		if time.Since(start) > 30*time.Second {
			t.Errorf("%+v: all the time was waited for", tt)
		}
	}
	_, h, eth0 := newLAN(t, "veth")
	start := time.Now()
	if got, err := h.ConflictsBeside(t.Context(), eth0, brief, addrs("10.1.0.77"), addrs("10.1.0.9")...); err != nil || len(got) > 0 {
		t.Errorf("%v, %v; want none", got, err)
	}
	if took := time.Since(start); took < brief {
		t.Errorf("nobody answered, and yet it took %v only", took)
	}
}

// TestNobodyToAsk: without a carrier nothing can be seen.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	l, h, eth0 := newLAN(t, "veth")
	ip(t, l.neighbour, "link set lan0 down")
	if got, err := h.Conflicts(t.Context(), eth0, brief, addrs("10.1.0.2")...); err != nil || len(got) > 0 {
		t.Errorf("without carrier: %v, %v; want none", got, err)
	}
	ip(t, l.neighbour, "link set lan0 up")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Conflicts(ctx, eth0, brief, addrs("10.1.0.2")...); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// raw returns a socket that sends frames from the neighbour's lan0.
func (l lan) raw(t *testing.T) (send func(frame string)) {
	t.Helper()
	info, err := openIn(t, l.neighbour).Get(t.Context(), "lan0")
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if err := netns.Do(l.neighbour, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(frame string) {
		t.Helper()
		b, err := hex.DecodeString(strings.NewReplacer(" ", "", ":", "").Replace(frame))
		if err == nil {
			err = unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: info.Index, Protocol: 0})
		}
		if err != nil {
			t.Errorf("send %s: %v", frame, err)
		}
	}
}

// What another host sends that wants to have 10.1.0.7 or fd00:1::7, or looks for
// who has it; and from the sandbox's own MAC.
const (
	rival      = "02:00:00:00:00:77"
	arpHead    = "ffffffffffff " + rival + "0806 0001080006040001 " + rival
	probe4     = arpHead + "00000000 000000000000 0a010007"
	announce4  = arpHead + "0a010007 000000000000 0a010007"
	question4  = arpHead + "0a010009 000000000000 0a010007"
	ip6Head    = rival + "86dd 60000000 0018 3aff"
	group7     = "ff0200000000000000000001ff000007"
	fd7        = "fd000001000000000000000000000007"
	probe6     = "3333ff000007" + ip6Head + "00000000000000000000000000000000" + group7 + "8700000000000000" + fd7
	question6  = "3333ff000007" + ip6Head + "fd000001000000000000000000000009" + group7 + "8700000000000000" + fd7
	advertise6 = "333300000001" + ip6Head + fd7 + "ff020000000000000000000000000001" + "8800000020000000" + fd7
	routed6    = "333300000001" + rival + "86dd 60000000 0018 3a40" + fd7 + "ff020000000000000000000000000001" + "8800000020000000" + fd7
	redirected = "333300000001" + rival + "86dd 60000000 0020 3aff" + fd7 + "ff020000000000000000000000000001" + "8800000020000000" + fd7 + "0201020000000078"
)

// TestClaims has another host send something while addresses are probed, as
// soon as the first probe comes.
func TestClaims(t *testing.T) {
	t.Parallel()
	own := func(frame string) string { return strings.ReplaceAll(frame, rival, "02:00:00:00:00:01") }
	for _, tt := range []struct{ name, frame, want string }{
		{"macvlan: probe", probe4, "map[10.1.0.7:02:00:00:00:00:77]"},
		{"macvlan: IPv6 probe", probe6, "map[fd00:1::7:02:00:00:00:00:77]"},
		{"probe", probe4, "map[10.1.0.7:02:00:00:00:00:77]"},
		{"announcement", announce4, "map[10.1.0.7:02:00:00:00:00:77]"},
		{"question", question4, "map[]"},
		{"own probe comes back", own(probe4), "map[]"},
		{"IPv6 probe", probe6, "map[fd00:1::7:02:00:00:00:00:77]"},
		{"IPv6 advertisement", advertise6, "map[fd00:1::7:02:00:00:00:00:77]"},
		{"IPv6 advertisement of another MAC", redirected, "map[fd00:1::7:02:00:00:00:00:78]"},
		{"IPv6 advertisement from elsewhere", routed6, "map[]"},
		{"IPv6 question", question6, "map[]"},
		{"own IPv6 probe comes back", own(probe6), "map[]"},
		{"of another VLAN", strings.Replace(probe4, "0806", "81000005 0806", 1), "map[]"},
		{"cut off", probe4[:len(probe4)-4], "map[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := lan{netnstest.New(t), netnstest.New(t)}
			kind := "veth"
			if strings.HasPrefix(tt.name, "macvlan") { // which hears only what it is told to
				kind = "macvlan"
			}
			kinds()[kind](t, l)
			ip(t, l.sandbox, "link set eth0 address 02:00:00:00:00:01")
			ip(t, l.neighbour, "link set lan0 up")
			h := openIn(t, l.sandbox)
			if err := h.Set(t.Context(), "eth0", link.Change{Up: true}); err != nil {
				t.Fatal(err)
			}
			eth0, err := h.Get(t.Context(), "eth0")
			if err != nil {
				t.Fatal(err)
			}
			send, heard := l.raw(t), l.hears(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				heard()
				send(tt.frame)
			}()
			ask := addrs("10.1.0.7")
			if strings.Contains(tt.frame, "86dd") {
				ask = addrs("fd00:1::7")
			}
			within := patience
			if tt.want == "map[]" {
				within = brief
			}
			got, err := h.Conflicts(t.Context(), eth0, within, ask...)
			<-done
			if err != nil || fmt.Sprint(got) != tt.want {
				t.Errorf("%v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

// hears returns a function that waits for a probe to come to the neighbour.
func (l lan) hears(t *testing.T) func() {
	t.Helper()
	fd := -1
	if err := netns.Do(l.neighbour, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(unix.ETH_P_ALL>>8|unix.ETH_P_ALL<<8&0xff00))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() {
		buf := make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				t.Errorf("hear a probe: %v", err)
				return
			}
			frame := hex.EncodeToString(buf[:n])
			if strings.HasSuffix(frame, "0a010007") || strings.HasSuffix(frame, fd7) {
				return
			}
		}
	}
}

// TestProbes: what goes out is right by the words of RFC 5227 and RFC 4862, and
// is answered by nobody but who has the address: the sandbox never is.
func TestProbes(t *testing.T) {
	t.Parallel()
	var p plan.Plan
	dry := link.NewDry(&p)
	l, _, eth0 := newLAN(t, "veth")
	dry.Space("sandbox", l.sandbox, false)
	h, err := dry.Open(l.sandbox)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	got, err := h.Conflicts(t.Context(), eth0, patience, addrs("10.1.0.2")...)
	if err != nil || len(got) > 0 {
		t.Errorf("dry: %v, %v; want none", got, err)
	}
	if steps := p.Steps(); len(steps) != 1 || steps[0].What != "probe for [10.1.0.2] at dev eth0, 3 times in 30s" || steps[0].Where != "sandbox" {
		t.Errorf("plan is %+v", steps)
	}
}

func BenchmarkConflicts(b *testing.B) {
	sandbox, neighbour := netnstest.New(b), netnstest.New(b)
	ip(b, sandbox, "link add eth0 up type veth peer name lan0")
	move(b, sandbox, "lan0", neighbour)
	ip(b, neighbour, "link set lan0 up")
	ip(b, neighbour, "addr add 10.1.0.2/24 dev lan0")
	h := openIn(b, sandbox)
	eth0, err := h.Get(b.Context(), "eth0")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		got, err := h.Conflicts(b.Context(), eth0, patience, addrs("10.1.0.2")...)
		if err != nil || len(got) != 1 {
			b.Fatalf("%v, %v", got, err)
		}
	}
}
