// Command bowline-dhcp gives containers addresses of the LAN's DHCP server: to
// any CNI plugin that delegates to it, and to Docker through ours.
package main

import (
	"github.com/bowline-net/bowline/internal/cni"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/dhcp/keeper"
	"github.com/bowline-net/bowline/ipam/command"
)

// version is stamped by the build.
var version = "devel"

func main() {
	command.Command{
		Name:    "bowline-dhcp",
		Version: version,
		Usage:   usage,
		Keys:    keys,
		Verbs: []command.Verb{
			{Name: "list", Run: list},
		},
		CNI:    cni.MainDHCP,
		Socket: command.Socket{Path: dhcp.SocketPath(), About: "where plugins ask"},
		Serve:  keeper.Serve,
	}.Main()
}

const usage = `dhcp gives containers addresses of the LAN's DHCP server, and keeps them.

Usage:
  bowline-dhcp                    run one CNI command, the one CNI_COMMAND names
  bowline-dhcp serve              keep the leases of this host
  bowline-dhcp list [-json]       print the leases
  bowline-dhcp help, version
`

const keys = `Keys of "ipam" in a CNI file, besides "type":
  ipv4=BOOL                       an address by DHCPv4 (default true)
  ipv6=WORD                       auto: as the router says, none without a router; dhcp: by
                                  DHCPv6; slaac: of the router's prefix; off (default auto)
  hostname=NAME                   that servers are told (default: the pod's or container's name)
  clientID=TEXT                   that servers know the container by (default: made of its name)
  provide=LIST                    [{"option", "value", "fromArg"}]: options for the server, by
                                  number or by one of the names below
  request=LIST                    [{"option", "skipDefault"}]: options to ask for besides
  priority=NUMBER                 of the routes (default: the kernel's)
  suppress=LIST                   ["gateway"]: no gateway and no default route
  acd=BOOL                        ask whether somebody has the address already (default true)
  timeout=SECONDS                 how long to wait for a server, 1 to 300 (default 20)
  daemonSocketPath=PATH           of the daemon that serves there

Names of options: dhcp-client-identifier, host-name, routers, subnet-mask, user-class,
vendor-class-identifier.
`
