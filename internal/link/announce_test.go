package link_test

import (
	"net/netip"
	"testing"

	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func BenchmarkAnnounceIPv6(b *testing.B) {
	ns := netnstest.New(b)
	netnstest.Command(b, ns, "ip", "link", "add", "eth0", "up", "type", "veth", "peer", "name", "p0")
	netnstest.Command(b, ns, "ip", "link", "set", "p0", "up")
	netnstest.Command(b, ns, "ip", "addr", "add", "fd00::2/64", "dev", "eth0", "nodad")
	err := netns.Do(ns, func() error {
		h, err := link.OpenHere()
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := h.Get(b.Context(), "eth0")
		if err != nil {
			return err
		}
		for b.Loop() {
			if err := h.AnnounceIPv6(b.Context(), l, netip.MustParseAddr("fd00::2")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
