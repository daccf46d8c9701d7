package nft_test

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

// macOf returns the MAC of a link.
func macOf(t *testing.T, ns *netns.Handle, name string) net.HardwareAddr {
	t.Helper()
	var mac net.HardwareAddr
	if err := netns.Do(ns, func() error {
		link, err := net.InterfaceByName(name)
		if err == nil {
			mac = link.HardwareAddr
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return mac
}

// TestShimPackets: by the shim the host and a container reach each other, and
// nobody else hears of it.
func TestShimPackets(t *testing.T) {
	t.Parallel()
	l := newLAN(t, "a", "b")
	const shim = "bwh0"
	h := nft.Open(l.host)
	defer h.Close()
	l.macvlan(t, l.host, shim)
	p := nft.ShimPeer{Network: "lan", Endpoint: "a/eth0", Link: shim, MAC: macOf(t, l.at["a"], "eth0")}
	if err := errors.Join(h.EnsureShim(t.Context(), shim), h.AdmitToShim(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	heard := listen(t, l.outside)
	// As the driver does it: the host has its address on the parent, routes to the
	// container by the shim, and permanent neighbours.
	l.at["host"], l.addrs["host"] = l.host, map[string]string{"4": "10.9.0.200", "6": "fd00:9::200"}
	l.dress(t, "host", "up0")
	netnstest.Command(t, l.host, "ip", "link", "set", shim, "up")
	// By ARP any link answers for all of the host, by neighbour discovery only for
	// what it has itself.
	netnstest.Command(t, l.host, "ip", "addr", "add", "fd00:9::200/128", "dev", shim, "nodad")
	for _, ip := range l.addrs["a"] {
		netnstest.Command(t, l.host, "ip", "neigh", "add", ip, "lladdr", p.MAC.String(), "nud", "permanent", "dev", shim)
	}
	netnstest.Command(t, l.host, "ip", "route", "add", l.addrs["a"]["4"], "dev", shim, "src", "10.9.0.200")
	netnstest.Command(t, l.host, "ip", "-6", "route", "add", l.addrs["a"]["6"], "dev", shim, "src", "fd00:9::200")
	serveAll(t, l.host)
	l.try(t, append(everything("host", "a", true), everything("a", "host", true)...))
	l.try(t, append(everything("host", "outside", true), everything("outside", "host", true)...))
	l.try(t, everything("b", "host", false)) // not by the shim; otherwise no macvlan can

	// Whom the host does not know it would ask for by ARP and by neighbour
	// discovery, at its shim if a route says so; and groups it would tell of itself.
	netnstest.Command(t, l.host, "ip", "route", "add", "10.9.1.0/24", "dev", shim)
	netnstest.Command(t, l.host, "ip", "-6", "route", "add", "fd00:9:1::/64", "dev", shim)
	for _, to := range []string{"10.9.1.1", "fd00:9:1::1", "ff02::1%" + shim, "224.0.0.1"} {
		_ = netns.Do(l.host, exec.Command("ping", "-n", "-I", shim, "-c", "1", "-W", "1", to).Run) // nobody answers
	}
	// The LAN asks for the host, which its parent answers alone.
	netnstest.Command(t, l.outside, "ip", "neigh", "flush", "dev", "eth0")
	l.try(t, everything("outside", "host", true))
	neighbours := netnstest.Command(t, l.outside, "ip", "neigh", "show")
	if mac := macOf(t, l.host, shim).String(); strings.Contains(neighbours, mac) || strings.Count(neighbours, macOf(t, l.host, "up0").String()) < 2 {
		t.Errorf("outside knows as neighbours, with %s at the shim:\n%s", mac, neighbours)
	}
	if frames := heard(t, macOf(t, l.host, shim)); len(frames) > 0 {
		t.Errorf("the shim was heard on the LAN: %d frames, the first %x", len(frames), frames[0])
	}
	if err := h.ExpelFromShim(t.Context(), "lan", "a/eth0"); err != nil {
		t.Fatal(err)
	}
	l.try(t, append(everything("host", "a", false), everything("a", "host", false)...))
}

// listen keeps all frames that come to the namespace's eth0. The function that it
// returns ends that and tells those from a MAC.
func listen(t *testing.T, ns *netns.Handle) func(t *testing.T, from net.HardwareAddr) [][]byte {
	t.Helper()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	fd := -1
	if err := netns.Do(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20), unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(t *testing.T, from net.HardwareAddr) (frames [][]byte) {
		t.Helper()
		seen := 0
		for {
			b := make([]byte, 9000)
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err == unix.EAGAIN {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			seen++
			if n > 12 && bytes.Equal(b[6:12], from) {
				frames = append(frames, b[:n])
			}
		}
		if seen == 0 {
			t.Error("nothing was heard at all")
		}
		return frames
	}
}
