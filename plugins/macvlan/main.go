// Command bowline-macvlan puts containers on the physical network of the host,
// each with a MAC of its own, for CNI engines and for Docker.
package main

import (
	"flag"
	"os"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plugin"
)

// version is stamped by the build.
var version = "devel"

func main() {
	os.Exit(plugin.Main(plugin.Spec{
		Name:    "macvlan",
		Summary: "puts containers on the physical network of the host, each with a MAC of its own.",
		Version: version,
		New: func(oneShot bool) (bowline.Driver, error) {
			d, err := newDriver(nil)
			if err != nil {
				return nil, err
			}
			d.host.Detach, d.host.Stays, d.host.Keep = true, !oneShot, d.rules.Socket
			return d, nil
		},
		Explain: func(links *link.Dry) (bowline.Driver, error) {
			host, err := links.Open(nil)
			if err != nil {
				return nil, err
			}
			return &driver{host: host, rules: nft.OpenDry(nil, links.Plan), plan: links.Plan, hold: func(string) func() { return func() {} }}, nil
		},
		Options:         func() *flag.FlagSet { return new(options).flags() },
		EndpointOptions: func() *flag.FlagSet { return new(endpoint.Options).Flags() },
		Defaults:        defaults,
	}))
}

// defaults is what a Docker user expects of a network without asking: containers
// reach the world through the gateway of the LAN.
func defaults(n bowline.NetworkConfig) map[string]string {
	if len(n.Pools) == 0 {
		return nil
	}
	return map[string]string{"isDefaultGateway": "true"}
}
