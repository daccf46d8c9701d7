package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/volume/pool"
)

// socketPath is where Docker looks for a plugin of our name.
func socketPath() string { return filepath.Join(state.PluginDir(), "bowline-volume.sock") }

// serve answers Docker until it is told to end.
func serve(ctx context.Context, c *call) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.level)); err != nil {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("log=%q: want debug, info, warn or error", c.level))
	}
	log := journal.New(c.stderr, level)
	slog.SetDefault(log)
	p, err := pool.Open(ctx, c.dir)
	if err != nil {
		return err
	}
	if err := p.Settle(ctx); err != nil {
		log.Warn("what was cut short could not be cleared", "error", err)
	}
	listeners, err := socket.Activated()
	if err == nil && len(listeners) == 0 {
		var l net.Listener
		if l, err = socket.Listen(c.socket); err == nil {
			listeners = []net.Listener{l}
		}
	}
	if err != nil {
		return err
	}
	m := socket.NewMux(log)
	register(m, p)
	for _, l := range listeners {
		log.Info("serving", "socket", l.Addr().String(), "pool", p.Dir, "kind", p.Kind())
	}
	return socket.Serve(ctx, m, listeners...)
}

// The values of Docker's volume plugin protocol.
type (
	named   struct{ Name, ID string }
	request struct {
		Name string
		Opts map[string]string
	}
	described struct {
		Name, Mountpoint string
		CreatedAt        string         `json:",omitempty"`
		Status           map[string]any `json:",omitempty"`
	}
	empty struct{}
)

// register has m answer the calls of Docker and Podman. They ask for a volume
// before they make it; an ID may be mounted again without having been unmounted,
// after a kill.
func register(m *socket.Mux, p *pool.Pool) {
	m.Implements("VolumeDriver")
	socket.HandleEmpty(m, "VolumeDriver.Capabilities", func(context.Context) (any, error) {
		return map[string]any{"Capabilities": map[string]string{"Scope": "local"}}, nil
	})
	socket.HandleEmpty(m, "VolumeDriver.List", func(ctx context.Context) (any, error) {
		paths, err := p.Names(ctx)
		all := []described{}
		for _, name := range slices.Sorted(maps.Keys(paths)) {
			all = append(all, described{Name: name, Mountpoint: paths[name]})
		}
		if err != nil { // the others are to be seen
			slog.WarnContext(ctx, "some volumes cannot be listed", "error", err)
		}
		return map[string][]described{"Volumes": all}, nil
	})
	socket.Handle(m, "VolumeDriver.Create", func(ctx context.Context, r request) (empty, error) {
		o, err := options(r)
		if err == nil {
			err = p.Create(ctx, r.Name, o)
		}
		return empty{}, err
	})
	socket.Handle(m, "VolumeDriver.Remove", func(ctx context.Context, r named) (empty, error) {
		// The engine knows its containers: IDs that it has not given back were
		// lost when it was killed.
		return empty{}, p.Remove(ctx, r.Name, true)
	})
	socket.Handle(m, "VolumeDriver.Mount", func(ctx context.Context, r named) (map[string]string, error) {
		path, err := p.Mount(ctx, r.Name, r.ID)
		return map[string]string{"Mountpoint": path}, err
	})
	socket.Handle(m, "VolumeDriver.Unmount", func(ctx context.Context, r named) (empty, error) {
		return empty{}, p.Unmount(ctx, r.Name, r.ID)
	})
	socket.Handle(m, "VolumeDriver.Path", func(ctx context.Context, r named) (map[string]string, error) {
		path, _, err := p.Path(ctx, r.Name)
		return map[string]string{"Mountpoint": path}, err
	})
	socket.Handle(m, "VolumeDriver.Get", func(ctx context.Context, r named) (map[string]described, error) {
		i, err := p.Inspect(ctx, r.Name, false) // engines ask for each volume all the time
		if err != nil {
			return nil, err
		}
		status := map[string]any{"kind": i.Kind, "owner": i.Owner.Host, "snapshots": len(i.Snapshots), "mounts": len(i.Mounts)}
		if limit := size(i.Size); limit != 0 {
			status["size"], status["used"] = limit.String(), i.Used
		}
		return map[string]described{"Volume": {Name: i.Name, Mountpoint: i.Path, CreatedAt: i.Created.Format(time.RFC3339), Status: status}}, nil
	})
}

// options reads those of docker volume create -o.
func options(r request) (o pool.Options, err error) {
	known := []string{"size", "from", "clone"}
	for _, key := range slices.Sorted(maps.Keys(r.Opts)) {
		value := r.Opts[key]
		switch key {
		case "size":
			var s size
			err = s.Set(value)
			o.Size = uint64(s)
		case "from":
			o.From = value
		case "clone":
			o.Clone = value
		default:
			want := "one of the keys " + strings.Join(known, ", ")
			if near := bowline.Nearest(key, known); near != "" {
				want = near
			}
			err = bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("option %s=%q: want %s", key, value, want))
		}
		if err != nil {
			return o, fmt.Errorf("volume %q: %w", r.Name, err)
		}
	}
	return o, nil
}
