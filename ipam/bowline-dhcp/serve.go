package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"

	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/dhcp/keeper"
	"github.com/bowline-net/bowline/internal/journal"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	socket string
	level  slog.Level
}

func (o *serveOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.TextVar(&o.level, "log", slog.LevelInfo, "`LEVEL` debug, info, warn or error, on standard error (default info)")
	fs.StringVar(&o.socket, "socket", dhcp.SocketPath(), "`PATH` where plugins ask (default "+dhcp.SocketPath()+")")
	return fs
}

// serve keeps leases until SIGTERM or SIGINT.
func serve(args []string, stdout, stderr io.Writer) int {
	var o serveOptions
	fs := o.flags()
	fail := func(status int, err error) int {
		fmt.Fprintf(stderr, "bowline-dhcp serve: %v\n", err)
		return status
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(stdout, help())
		return exitDone
	} else if err != nil {
		return fail(exitUsage, err)
	}
	if fs.NArg() > 0 {
		return fail(exitUsage, fmt.Errorf("unexpected argument %q", fs.Arg(0)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := journal.New(stderr, o.level)
	slog.SetDefault(log)
	if err := keeper.Serve(ctx, o.socket, log); err != nil {
		return fail(exitFailed, err)
	}
	return exitDone
}

// help returns one screen. The flags come from the FlagSet that parses them.
func help() string {
	var b strings.Builder
	b.WriteString(`dhcp gives containers addresses of the LAN's DHCP server, and keeps them.

Usage:
  bowline-dhcp                    run one CNI command, the one CNI_COMMAND names
  bowline-dhcp serve              keep the leases of this host
  bowline-dhcp list [-json]       print the leases
  bowline-dhcp help, version

Flags of serve:
`)
	new(serveOptions).flags().VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  %-32s%s\n", "-"+f.Name+" "+value, strings.TrimSpace(strings.TrimPrefix(usage, value)))
	})
	b.WriteString(`
Keys of "ipam" in a CNI file, besides "type":
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

Exit status: 0 done, 1 failed, 2 wrong usage, 4 no such command.
`)
	return b.String()
}
