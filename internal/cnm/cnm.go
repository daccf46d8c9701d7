// Package cnm is the Docker face: it lets Docker Engine use a driver as a
// network driver and the allocator as an IPAM driver, over the legacy plugin
// protocol (libnetwork's remote drivers).
//
// dockerd tells each network and each endpoint once and never repeats them,
// whichever side restarts. So every one has a record here, and what the records
// say is made true again when the plugin starts.
package cnm

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/internal/meter"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/internal/state"
)

// SocketPath returns where dockerd looks for the plugin of that name, such as
// "bowline-bridge": the name is what -d and --ipam-driver take.
func SocketPath(plugin string) string {
	return filepath.Join(state.PluginDir(), plugin+".sock")
}

// A Config says what one process serves.
type Config struct {
	Sockets []string       // paths to listen on, unless systemd passes sockets; at least one
	Network *NetworkDriver // or nil
	IPAM    *IPAMDriver    // or nil
	Log     *slog.Logger   // required
}

// Serve serves Docker until ctx is done, and returns nil then. Both drivers
// answer on every socket. It is an error if another server answers on one of
// them.
func Serve(ctx context.Context, c Config) error {
	listeners, err := listen(c.Sockets)
	if err != nil {
		return err
	}
	m := socket.NewMux(c.Log)
	m.Describe(describe)
	m.OnEnd(c.counter())
	if c.IPAM != nil {
		c.IPAM.register(m, c.Log)
	}
	if c.Network != nil {
		c.Network.register(m, c.Log)
		// dockerd may call already; its calls wait in the sockets' backlogs.
		c.Network.restore(ctx)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go c.Network.sweepLoop(ctx)
	}
	go sweepFiles(ctx, c.Log, time.Minute)
	for _, l := range listeners {
		c.Log.Info("serving", "socket", l.Addr().String())
	}
	return socket.Serve(ctx, m, listeners...)
}

// sweepFiles removes what was left by writers of records that were killed, such
// as the process before this one. No record takes age to write, so it waits for
// that first.
func sweepFiles(ctx context.Context, log *slog.Logger, age time.Duration) {
	timer := time.NewTimer(age)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	if err := errors.Join(state.Run().Sweep("", age), state.Lib().Sweep("", age)); err != nil {
		log.Warn("files of killed writers not removed", "error", err)
	}
}

func (d *NetworkDriver) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.sweep(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// describe has log lines say what a call is about, and whose trace it is of.
func describe(ctx context.Context, traceparent string, body []byte) context.Context {
	var about struct{ NetworkID, EndpointID, SandboxKey, PoolID, Address string }
	_ = json.Unmarshal(body, &about) // what it does not say is left out
	return journal.With(ctx, "network", about.NetworkID, "endpoint", about.EndpointID, "sandbox", about.SandboxKey,
		"pool", about.PoolID, "address", about.Address, "trace", journal.TraceID(traceparent))
}

// counter returns what counts how long calls took.
func (c Config) counter() func(name string, err error, took time.Duration) {
	driver := "ipam"
	if c.Network != nil {
		driver = c.Network.Name
	}
	m, err := meter.Open(state.MeterFile(driver))
	if err != nil {
		c.Log.Warn("calls are not counted", "error", err)
		return func(string, error, time.Duration) {}
	}
	return func(name string, err error, took time.Duration) {
		m.Add(meter.Op{Face: "docker", Verb: name, Code: bowline.Code(err)}, took)
	}
}

func listen(paths []string) ([]net.Listener, error) {
	ls, err := socket.Activated()
	if err != nil || len(ls) > 0 {
		return ls, err
	}
	if len(paths) == 0 {
		return nil, errors.New("no socket to listen on")
	}
	for _, p := range paths {
		l, err := socket.Listen(p)
		if err != nil {
			for _, l := range ls {
				l.Close()
			}
			return nil, err
		}
		ls = append(ls, l)
	}
	return ls, nil
}
