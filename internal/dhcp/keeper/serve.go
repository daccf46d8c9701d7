package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/internal/meter"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/internal/state"
)

// Serve keeps leases, and answers on the unix socket at path, or on those that
// systemd passes, until ctx is done. It returns nil then; the leases stay on
// record. Whoever calls must be root, or who runs this.
func Serve(ctx context.Context, path string, log *slog.Logger) error {
	unlock, err := onlyOne()
	if err != nil {
		return err
	}
	defer unlock()
	listeners, err := socket.Activated()
	if err == nil && len(listeners) == 0 {
		var l net.Listener
		if l, err = socket.Listen(path); err == nil {
			listeners = []net.Listener{l}
		}
	}
	if err != nil {
		return err
	}
	k := New(log)
	m := socket.NewMux(log)
	m.Describe(describe)
	m.OnEnd(counter(log))
	k.Register(m)
	base, end := context.WithCancel(ctx)
	defer end()
	if err := k.Restore(base); err != nil {
		return err
	}
	go k.Sweep(base)
	for i, l := range listeners {
		log.Info("serving", "socket", l.Addr().String(), "leases", len(k.all("")))
		listeners[i] = trusting{l, log}
	}
	return socket.Serve(ctx, m, listeners...)
}

// onlyOne keeps a second process from renewing the same leases.
func onlyOne() (unlock func(), err error) {
	s := Store()
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(s.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another bowline-dhcp keeps the leases in " + s.Dir)
		}
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}

// trusting hangs up on callers that are neither root nor who runs this, should
// the permissions of the socket let them by.
type trusting struct {
	net.Listener
	log *slog.Logger
}

func (t trusting) Accept() (net.Conn, error) {
	for {
		c, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peer(c)
		if err == nil && (uid == 0 || int(uid) == os.Geteuid()) {
			return c, nil
		}
		t.log.Warn("caller turned away", "uid", uid, "error", err)
		c.Close()
	}
}

func peer(c net.Conn) (uid uint32, err error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(cerr, err); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// describe has log lines say what a call is about, and whose trace it is of.
func describe(ctx context.Context, traceparent string, body []byte) context.Context {
	var about struct{ Network, ID, Sandbox string }
	_ = json.Unmarshal(body, &about) // what it does not say is left out
	return journal.With(ctx, "network", about.Network, "endpoint", about.ID, "sandbox", about.Sandbox, "trace", journal.TraceID(traceparent))
}

// counter returns what counts how long calls took.
func counter(log *slog.Logger) func(name string, err error, took time.Duration) {
	m, err := meter.Open(state.MeterFile("dhcp"))
	if err != nil {
		log.Warn("calls are not counted", "error", err)
		return func(string, error, time.Duration) {}
	}
	return func(name string, err error, took time.Duration) {
		m.Add(meter.Op{Face: "dhcp", Verb: name, Code: bowline.Code(err)}, took)
	}
}
