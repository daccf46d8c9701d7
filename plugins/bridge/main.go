// Command bowline-bridge connects the containers of one host through a Linux
// bridge, for CNI engines and for Docker.
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
		Name:    "bridge",
		Summary: "connects the containers of one host through a Linux bridge.",
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
			return &driver{host, nft.OpenDry(nil, links.Plan)}, nil
		},
		Options:         func() *flag.FlagSet { return new(options).flags() },
		EndpointOptions: func() *flag.FlagSet { return new(endpoint.Options).Flags() },
	}))
}
