// Package socket is the Docker plugin transport: JSON calls over HTTP on a unix
// socket below /run/docker/plugins.
//
// It is our own rather than go-plugins-helpers because that has no handler for
// several interfaces on one socket, no graceful end, no body limit and no
// request log; and it does not use net/http, see http.go.
package socket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// grace is how long calls under way may take when the server is to end.
const grace = 10 * time.Second

// patience is how long a client may take to send a request that it has begun.
const patience = 10 * time.Second

// Serve answers calls on all listeners until ctx is done. Then it takes no new
// calls, waits up to 10 s for those under way, and closes all connections:
// dockerd keeps idle ones and would go on talking to a process that is no
// longer listening. It closes the listeners and returns nil after such an end.
func Serve(ctx context.Context, m *Mux, listeners ...net.Listener) error {
	// Calls under way outlive ctx: their deaths would be half-done work.
	base, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	s := &server{mux: m, conns: map[net.Conn]bool{}}
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- s.accept(base, l) }()
	}
	var failed error
	running := len(listeners)
	select {
	case <-ctx.Done():
	case failed = <-ended:
		running--
	}
	s.stop()
	for _, l := range listeners {
		l.Close()
	}
	for range running {
		<-ended
	}
	if !s.wait(grace) {
		kill()
		s.closeAll()
		failed = errors.Join(failed, fmt.Errorf("calls under way did not end within %s", grace))
	}
	return failed
}

// A server knows its connections, and which of them are in the middle of a call.
type server struct {
	mux      *Mux
	mu       sync.Mutex
	conns    map[net.Conn]bool // true: a call is under way
	stopping bool
	all      sync.WaitGroup
}

func (s *server) accept(ctx context.Context, l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if !s.add(c) {
			c.Close()
			continue
		}
		s.all.Go(func() {
			defer s.remove(c)
			s.converse(ctx, c)
		})
	}
}

// converse answers one request after the other until the client hangs up.
func (s *server) converse(ctx context.Context, c net.Conn) {
	r := bufio.NewReaderSize(c, maxHeader)
	_, err := r.Peek(1)
	for err == nil && s.busy(c, true) {
		err = s.exchange(ctx, c, r)
	}
}

// exchange answers one request and waits until the next one begins. The error
// says that there is none.
func (s *server) exchange(ctx context.Context, c net.Conn, r *bufio.Reader) error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	req, err := readRequest(r, c)
	_ = c.SetReadDeadline(time.Time{})
	var refused *statusError
	if errors.As(err, &refused) {
		if writeResponse(c, refused.status, errorBody(refused), true) == nil {
			linger(c)
		}
	}
	if err != nil {
		return err
	}
	// A client that hangs up will never know what we do for it: the call ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan error, 1)
	go func() {
		_, err := r.Peek(1)
		if err != nil {
			cancel()
		}
		next <- err
	}()
	status, body := s.mux.serve(ctx, req)
	err = writeResponse(c, status, body, req.last)
	if err != nil || req.last || !s.busy(c, false) {
		c.Close() // ends the Peek
		<-next
		return net.ErrClosed
	}
	return <-next
}

// linger reads on until the client has hung up, for a while: closing on a client
// that still writes would take the answer from under it.
func linger(c net.Conn) {
	if u, ok := c.(*net.UnixConn); ok {
		_ = u.CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.Copy(io.Discard, io.LimitReader(c, 8*maxBody))
}

func (s *server) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.conns[c] = false
	}
	return !s.stopping
}

func (s *server) remove(c net.Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

// busy notes that a call begins or ends; false: take no more on c.
func (s *server) busy(c net.Conn, is bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = is
	return !s.stopping
}

// stop hangs up on clients that are not in the middle of a call.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	for c, busy := range s.conns {
		if !busy {
			c.Close()
		}
	}
}

func (s *server) wait(atMost time.Duration) bool {
	done := make(chan struct{})
	go func() { s.all.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(atMost):
		return false
	}
}

func (s *server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}
