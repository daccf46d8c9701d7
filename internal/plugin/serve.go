package plugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/bowline-net/bowline/internal/cnm"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	socket string
	level  slog.Level
	ipam   bool
}

func (s Spec) serveFlags(o *serveOptions) *flag.FlagSet {
	fs := NewOptions()
	path := cnm.SocketPath("bowline-" + s.Name)
	fs.BoolVar(&o.ipam, "ipam", false, "serve as Docker's IPAM driver on the same socket too")
	fs.TextVar(&o.level, "log", slog.LevelInfo, "`LEVEL` debug, info, warn or error, on standard error (default info)")
	fs.StringVar(&o.socket, "socket", path, "`PATH` where Docker looks (default "+path+")")
	return fs
}

// serve runs until SIGTERM or SIGINT.
func (s Spec) serve(args []string, stderr io.Writer) int {
	var o serveOptions
	fs := s.serveFlags(&o)
	fail := func(status int, err error) int {
		fmt.Fprintf(stderr, "bowline-%s serve: %v\n", s.Name, err)
		return status
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		_ = s.help(stderr)
		return exitDone
	} else if err != nil {
		return fail(exitUsage, err)
	}
	if fs.NArg() > 0 {
		return fail(exitUsage, fmt.Errorf("unexpected argument %q", fs.Arg(0)))
	}
	d, err := s.New(false)
	if err != nil {
		return fail(exitFailed, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c := cnm.Config{
		Sockets: []string{o.socket},
		Network: &cnm.NetworkDriver{Driver: d, Name: s.Name},
		Log:     slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.level})),
	}
	if o.ipam {
		c.IPAM = &cnm.IPAMDriver{}
	}
	if err := cnm.Serve(ctx, c); err != nil {
		return fail(exitFailed, err)
	}
	return exitDone
}
