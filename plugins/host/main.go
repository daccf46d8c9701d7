// Command bowline-host gives containers the host's own network: all of it, or
// one NIC that comes back when the container ends, for CNI engines and for
// Docker. Called as loopback it is the loopback plugin.
package main

import (
	"flag"
	"os"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/plugin"
)

// version is stamped by the build.
var version = "devel"

func main() {
	os.Exit(plugin.Main(plugin.Spec{
		Name:            "host",
		Summary:         "gives containers a NIC of the host, or all that the host has.",
		Version:         version,
		New:             func(bool) (bowline.Driver, error) { return newDriver(nil, openLoans()) },
		Explain:         explained,
		Options:         func() *flag.FlagSet { return new(options).flags() },
		EndpointOptions: func() *flag.FlagSet { return new(endpointOptions).flags() },
		Defaults:        defaults,
		Docker:          forDocker,
	}))
}

func explained(links *link.Dry) (bowline.Driver, error) {
	host, err := links.Open(nil)
	if err != nil {
		return nil, err
	}
	return &driver{host: host, loans: openLoans(), sys: sysfs, plan: links.Plan}, nil
}

// defaults is what a Docker user expects of a network without asking: containers
// reach the world through the gateway of the LAN that the NIC is on.
func defaults(n bowline.NetworkConfig) map[string]string {
	if len(n.Pools) == 0 {
		return nil
	}
	return map[string]string{"isDefaultGateway": "true"}
}

// forDocker refuses what Docker cannot have of us: it joins a container to the
// host's namespace by itself, before any driver is asked.
func forDocker(n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err == nil && o.want == (wanted{}) {
		err = bowline.Wrong(bowline.ErrInvalid, "want the NIC that the container is to have, such as -o device=eth1; "+
			"a container that shares all of the host's network is Docker's own: docker run --network host")
	}
	return err
}
