package plugin

import (
	"context"
	"flag"
	"log/slog"
	"sync"

	"github.com/bowline-net/bowline/internal/cnm"
	"github.com/bowline-net/bowline/internal/journal"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	socket  string
	level   slog.Level
	ipam    bool
	metrics string
	repair  bool
}

func (s Spec) serveFlags(o *serveOptions) *flag.FlagSet {
	fs := NewOptions()
	path := cnm.SocketPath("bowline-" + s.Name)
	fs.BoolVar(&o.ipam, "ipam", false, "serve as Docker's IPAM driver on the same socket too")
	fs.TextVar(&o.level, "log", slog.LevelInfo, "`LEVEL` debug, info, warn or error, on standard error (default info)")
	fs.StringVar(&o.metrics, "metrics", "", "`ADDR` such as 127.0.0.1:9477 or unix:PATH: serve metrics there, by \"bowline metrics\" (default: none)")
	fs.BoolVar(&o.repair, "repair", true, "repair networks and endpoints, whoever made them, when something breaks them (default true)")
	fs.StringVar(&o.socket, "socket", path, "`PATH` where Docker looks (default "+path+")")
	return fs
}

// endpointKeys are the option keys of endpoints.
func (s Spec) endpointKeys() (keys []string) {
	if s.EndpointOptions != nil {
		s.EndpointOptions().VisitAll(func(f *flag.Flag) { keys = append(keys, f.Name) })
	}
	return keys
}

// serve runs until ctx is done.
func (s Spec) serve(ctx context.Context, call *call) error {
	var o serveOptions
	if _, err := call.parse(s.serveFlags(&o)); err != nil {
		return err
	}
	bowline := ""
	if o.metrics != "" {
		var err error
		if bowline, err = findBowline(); err != nil {
			return err
		}
	}
	d, err := s.New(false)
	if err != nil {
		return err
	}
	log := journal.New(call.stderr, o.level)
	slog.SetDefault(log)
	c := cnm.Config{
		Sockets: []string{o.socket},
		Network: &cnm.NetworkDriver{Driver: d, Name: s.Name, Defaults: s.Defaults, Validate: s.Docker, EndpointKeys: s.endpointKeys()},
		Log:     log,
	}
	if o.ipam {
		c.IPAM = &cnm.IPAMDriver{}
	}
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	if bowline != "" {
		beside.Go(func() { serveMetrics(ctx, bowline, o.metrics, call.stderr, log) })
	}
	if o.repair {
		if in, err := s.inspectorOf(d); err != nil {
			log.Error("nothing is repaired", "error", err)
		} else {
			c.Network.Watched = in.watching.Load
			beside.Go(func() { in.keepRight(ctx, log) })
		}
	}
	return cnm.Serve(ctx, c)
}
