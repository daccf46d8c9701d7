package link_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// listen opens a socket in ns and returns its port.
func listen(t testing.TB, ns *netns.Handle, network, address string) uint16 {
	t.Helper()
	var at net.Addr
	err := netns.Do(ns, func() error {
		if network[:3] == "tcp" {
			l, err := net.Listen(network, address)
			if err == nil {
				t.Cleanup(func() { l.Close() })
				at = l.Addr()
			}
			return err
		}
		c, err := net.ListenPacket(network, address)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			at = c.LocalAddr()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(at.String()).Port()
}

func TestListeners(t *testing.T) {
	t.Parallel()
	const any4, any6, lo4, lo6, other4 = "0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.1"
	tests := []struct {
		network, address string
		takes, not       []string // addresses
	}{
		{"tcp4", "127.0.0.1:0", []string{any4, lo4}, []string{any6, lo6, other4}},
		{"tcp4", "0.0.0.0:0", []string{any4, lo4, other4}, []string{any6, lo6}},
		{"tcp6", "[::1]:0", []string{any6, lo6}, []string{any4, lo4}},
		{"tcp6", "[::]:0", []string{any6, lo6}, []string{any4, lo4}}, // Go binds it to IPv6 alone
		{"tcp", "[::]:0", []string{any6, lo6, any4, lo4, other4}, nil},
		{"udp4", "127.0.0.1:0", []string{any4, lo4}, []string{any6, lo6, other4}},
		{"udp", "[::]:0", []string{any6, lo6, any4, lo4, other4}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.network+" "+tt.address, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h := openIn(t, ns)
			netnstest.Command(t, ns, "ip", "link", "set", "lo", "up")
			port := listen(t, ns, tt.network, tt.address)
			protocol, other := uint8(unix.IPPROTO_TCP), uint8(unix.IPPROTO_UDP)
			if tt.network[:3] == "udp" {
				protocol, other = other, protocol
			}
			takes := func(addr string, protocol uint8, first, last uint16) bool {
				a := netip.MustParseAddr(addr)
				ls, err := h.Listeners(t.Context(), protocol, a.Is4(), a.Is6(), first, last)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range ls {
					if l.Takes(a) {
						return true
					}
				}
				return false
			}
			for _, a := range tt.takes {
				if !takes(a, protocol, port, port) || !takes(a, protocol, port-1, port+1) {
					t.Errorf("nobody at %s port %d", a, port)
				}
				if takes(a, protocol, port+1, 65535) || takes(a, protocol, 1, port-1) || takes(a, other, 1, 65535) {
					t.Errorf("somebody at %s, not port %d", a, port)
				}
			}
			for _, a := range tt.not {
				if takes(a, protocol, port, port) {
					t.Errorf("somebody at %s port %d", a, port)
				}
			}
		})
	}
}

func TestListenersProcess(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	netnstest.Command(t, ns, "ip", "link", "set", "lo", "up")
	port := listen(t, ns, "tcp4", "127.0.0.1:0")
	ls, err := h.Listeners(t.Context(), unix.IPPROTO_TCP, true, false, port, port)
	if err != nil || len(ls) != 1 {
		t.Fatalf("Listeners = %v, %v", ls, err)
	}
	self := filepath.Base(os.Args[0])
	self = self[:min(15, len(self))] // what the kernel keeps of a name
	if pid, name := ls[0].Process(); pid != os.Getpid() || name != self {
		t.Errorf("Process = %d %q, want this test, %d", pid, name, os.Getpid())
	}
	if !ls[0].IsOf(self, os.Args[len(os.Args)-1]) || ls[0].IsOf(self, "other") || ls[0].IsOf("other", os.Args[len(os.Args)-1]) {
		t.Errorf("IsOf is wrong about this test, started as %q", os.Args)
	}
}

// TestListenersOfAbsentProtocol: SCTP may not be in the kernel.
func TestListenersOfAbsentProtocol(t *testing.T) {
	t.Parallel()
	h := open(t)
	if ls, err := h.Listeners(t.Context(), unix.IPPROTO_SCTP, true, true, 1, 65535); err != nil || len(ls) != 0 {
		t.Errorf("Listeners = %v, %v", ls, err)
	}
}

// TestListenersOfConnected: who talks to one peer listens to nobody.
func TestListenersOfConnected(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	netnstest.Command(t, ns, "ip", "link", "set", "lo", "up")
	if err := netns.Do(ns, func() error {
		c, err := net.Dial("udp", "127.0.0.1:53")
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if ls, err := h.Listeners(t.Context(), unix.IPPROTO_UDP, true, true, 1, 65535); err != nil || len(ls) != 0 {
		t.Errorf("Listeners = %v, %v", ls, err)
	}
}

func BenchmarkListeners(b *testing.B) {
	h := open(b)
	for b.Loop() {
		if _, err := h.Listeners(context.Background(), unix.IPPROTO_TCP, true, true, 8080, 8080); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListenersUDP(b *testing.B) {
	h := open(b)
	for b.Loop() {
		if _, err := h.Listeners(context.Background(), unix.IPPROTO_UDP, true, true, 8080, 8080); err != nil {
			b.Fatal(err)
		}
	}
}
