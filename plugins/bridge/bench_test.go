package main

import (
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// BenchmarkDriver measures the driver's part of ADD and DEL, without process
// start, IPAM and the sandbox's side.
func BenchmarkDriver(b *testing.B) {
	d, err := newDriver(netnstest.New(b))
	if err != nil {
		b.Fatal(err)
	}
	d.host.Detach = true
	n := testNetwork("web")
	n.Pools = n.Pools[:1]
	e := bowline.EndpointSpec{ID: "c1", IfName: "eth0", Sandbox: netnstest.New(b), Addrs: nil}
	e.Addrs = append(e.Addrs, n.Pools[0].Prefix)
	if err := d.CreateNetwork(b.Context(), n); err != nil {
		b.Fatal(err)
	}
	for _, step := range []string{"network", "create", "delete"} {
		b.Run(step, func(b *testing.B) {
			for b.Loop() {
				for _, s := range []string{"network", "create", "delete"} {
					if s != step {
						b.StopTimer()
					}
					switch s {
					case "network":
						err = d.CreateNetwork(b.Context(), n)
					case "create":
						_, err = d.CreateEndpoint(b.Context(), n, e)
					case "delete":
						err = d.DeleteEndpoint(b.Context(), n, e)
					}
					if err != nil {
						b.Fatal(err)
					}
					if s != step {
						b.StartTimer()
					}
				}
			}
		})
	}
}
