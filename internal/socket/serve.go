// Package socket is the Docker plugin transport: JSON calls over HTTP on a unix
// socket below /run/docker/plugins.
//
// It is our own rather than go-plugins-helpers because that has no handler for
// several interfaces on one socket, no graceful end, no body limit and no
// request log.
package socket

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// grace is how long calls under way may take when the server is to end.
const grace = 10 * time.Second

// Serve answers calls on all listeners until ctx is done. Then it takes no new
// calls, waits up to 10 s for those under way, and closes all connections:
// dockerd keeps idle ones and would go on talking to a process that is no
// longer listening. It closes the listeners and returns nil after such an end.
func Serve(ctx context.Context, m *Mux, listeners ...net.Listener) error {
	// Calls under way outlive ctx: their deaths would be half-done work.
	base, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	s := &http.Server{
		Handler:           m,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- s.Serve(l) }()
	}
	var failed error
	running := len(listeners)
	select {
	case <-ctx.Done():
	case failed = <-ended:
		running--
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := s.Shutdown(wait); err != nil {
		kill()
		failed = errors.Join(failed, err, s.Close())
	}
	for range running { // each closes its listener
		<-ended
	}
	return failed
}
