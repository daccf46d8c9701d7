package nft_test

import (
	"fmt"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

func BenchmarkPublish(b *testing.B) {
	for _, others := range []int{0, 1000, 10000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			ns := netnstest.New(b)
			h, n := nft.Open(ns), publishing("web")
			var many []nft.Port
			for i := range others {
				many = append(many, port(b, fmt.Sprintf("%d/tcp", 10000+2*i)))
			}
			if err := h.EnsureEndpoint(b.Context(), n, holder("others", append(many, port(b, "1/tcp"))...)); err != nil {
				b.Fatal(err)
			}
			e := holder("c/eth0", port(b, "8080/tcp"))
			for b.Loop() {
				if err := h.EnsureEndpoint(b.Context(), n, e); err != nil {
					b.Fatal(err)
				}
				if err := h.DeleteEndpoint(b.Context(), n, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPublishRow(b *testing.B) {
	for _, row := range []string{"8080/tcp", "20000-29999/tcp", "20000-29999/tcp 10.1.0.2:1", "192.0.2.1:20000-29999/tcp"} {
		b.Run(row, func(b *testing.B) {
			ns := netnstest.New(b)
			h, n := nft.Open(ns), publishing("web")
			if err := h.EnsureEndpoint(b.Context(), n, holder("others", port(b, "1/tcp"))); err != nil {
				b.Fatal(err)
			}
			e := holder("c/eth0", port(b, row))
			for b.Loop() {
				if err := h.EnsureEndpoint(b.Context(), n, e); err != nil {
					b.Fatal(err)
				}
				if err := h.DeleteEndpoint(b.Context(), n, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
