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

	"github.com/bowline-net/bowline/internal/cnm"
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
	path := cnm.SocketPath("bowline-ipam")
	fs.TextVar(&o.level, "log", slog.LevelInfo, "`LEVEL` debug, info, warn or error, on standard error (default info)")
	fs.StringVar(&o.socket, "socket", path, "`PATH` where Docker looks (default "+path+")")
	return fs
}

// serve serves Docker until SIGTERM or SIGINT.
func serve(args []string, stdout, stderr io.Writer) int {
	var o serveOptions
	fs := o.flags()
	fail := func(status int, err error) int {
		fmt.Fprintf(stderr, "bowline-ipam serve: %v\n", err)
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
	err := cnm.Serve(ctx, cnm.Config{
		Sockets: []string{o.socket},
		IPAM:    &cnm.IPAMDriver{},
		Log:     log,
	})
	if err != nil {
		return fail(exitFailed, err)
	}
	return exitDone
}

// help returns one screen. The flags come from the FlagSet that parses them.
func help() string {
	var b strings.Builder
	b.WriteString(`ipam gives addresses to containers, and remembers whose they are.

Usage:
  bowline-ipam                    run one CNI command, the one CNI_COMMAND names
  bowline-ipam serve              serve Docker as the IPAM driver bowline-ipam
  bowline-ipam list               print the addresses that are taken
  bowline-ipam pools [-json]      print how many addresses are taken, and free
  bowline-ipam prune              release what belongs to sandboxes that are gone
  bowline-ipam help, version

Flags of serve:
`)
	new(serveOptions).flags().VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  %-32s%s\n", "-"+f.Name+" "+value, strings.TrimSpace(strings.TrimPrefix(usage, value)))
	})
	b.WriteString(`
Keys of "ipam" in a CNI file, besides "type":
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

Exit status: 0 done, 1 failed, 2 wrong usage, 4 no such command.
`)
	return b.String()
}
