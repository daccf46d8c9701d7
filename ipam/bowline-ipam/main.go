// Command bowline-ipam gives addresses: to any CNI plugin that delegates to
// it, and to Docker.
package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/bowline-net/bowline/internal/cni"
	"github.com/bowline-net/bowline/internal/cnm"
	"github.com/bowline-net/bowline/ipam/command"
)

// version is stamped by the build.
var version = "devel"

func main() {
	command.Command{
		Name:    "bowline-ipam",
		Version: version,
		Usage:   usage,
		Keys:    keys,
		Verbs: []command.Verb{
			{Name: "list", Run: func(_ []string, stdout io.Writer) error { return list(stdout) }},
			{Name: "pools", Run: pools},
			{Name: "prune", Run: func(_ []string, stdout io.Writer) error { return prune(stdout) }},
		},
		CNI:    cni.MainIPAM,
		Socket: command.Socket{Path: cnm.SocketPath("bowline-ipam"), About: "where Docker looks"},
		Serve: func(ctx context.Context, socket string, log *slog.Logger) error {
			return cnm.Serve(ctx, cnm.Config{Sockets: []string{socket}, IPAM: &cnm.IPAMDriver{}, Log: log})
		},
	}.Main()
}

const usage = `ipam gives addresses to containers, and remembers whose they are.

Usage:
  bowline-ipam                    run one CNI command, the one CNI_COMMAND names
  bowline-ipam serve              serve Docker as the IPAM driver bowline-ipam
  bowline-ipam list               print the addresses that are taken
  bowline-ipam pools [-json]      print how many addresses are taken, and free
  bowline-ipam prune              release what belongs to sandboxes that are gone
  bowline-ipam help, version
`

const keys = `Keys of "ipam" in a CNI file, besides "type":
  ranges=LIST                     [[{"subnet", "rangeStart", "rangeEnd", "gateway"}]]: one
                                  address of each inner list
  subnet, rangeStart, rangeEnd, gateway
                                  one range, the short way
  exclude=LIST                    prefixes and addresses that are never handed out
  routes=LIST                     [{"dst", "gw", "mtu", "advmss", "priority", "table", "scope"}]
  resolvConf=PATH                 file whose name servers go into the result
  cooldown=SECONDS                how long a released address rests (default 60)
  quarantine=TIME                 how long an address that others use is left alone
                                  (default 10m)
  sticky=BOOL                     the same pod gets the same address again (default true)
  dataDir=PATH                    accepted and ignored
`
