package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"
)

// contentType is what dockerd sends and expects.
const contentType = "application/vnd.docker.plugins.v1.1+json"

// maxBody bounds a request, in bytes. Real ones have a few kilobytes; one with
// 10 000 published ports has about 1 MB.
const maxBody = 8 << 20

// A Mux answers the calls of the Docker plugin protocol: POST, one JSON value in
// and one out, the path is the method. Fill it with [Handle] and [HandleEmpty]
// before it serves.
type Mux struct {
	log        *slog.Logger
	implements []string
	activated  []func()
	methods    map[string]method
}

type method struct {
	call  func(ctx context.Context, body []byte) (any, error)
	empty bool // takes no request value
	quiet bool // told at debug level only
}

// NewMux returns a Mux that logs one line per call to log.
func NewMux(log *slog.Logger) *Mux {
	return &Mux{log: log, methods: map[string]method{}}
}

// Implements tells the engine that iface, such as "NetworkDriver", is served
// here. There may be several on one socket.
func (m *Mux) Implements(iface string) {
	if !slices.Contains(m.implements, iface) {
		m.implements = append(m.implements, iface)
	}
}

// OnActivate has f called when an engine introduces itself: when it starts, or
// when it needs the plugin for the first time.
func (m *Mux) OnActivate(f func()) { m.activated = append(m.activated, f) }

// Handle serves the method, such as "NetworkDriver.Join", with f. A call
// without a body is refused with 400: dockerd repeats a call whose connection
// broke with the body that it has read already, that is, with none.
func Handle[Req, Resp any](m *Mux, name string, f func(context.Context, Req) (Resp, error)) {
	m.methods["/"+name] = method{call: func(ctx context.Context, body []byte) (any, error) {
		var req Req
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("%s: request is not the JSON it should be: %v", name, err)}
		}
		return f(ctx, req)
	}}
}

// HandleEmpty serves a method that takes no request, such as
// "NetworkDriver.GetCapabilities". A body is not looked at.
func HandleEmpty[Resp any](m *Mux, name string, f func(context.Context) (Resp, error)) {
	m.methods["/"+name] = method{empty: true, quiet: true, call: func(ctx context.Context, _ []byte) (any, error) {
		return f(ctx)
	}}
}

// A statusError is answered with a status other than 500.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// ServeHTTP answers one call.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	met, known := m.methods[r.URL.Path]
	result, err := m.answer(w, r, met, known)
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		var se *statusError
		if errors.As(err, &se) {
			status = se.status
		}
		// NetworkDriver and VolumeDriver read Err, IpamDriver reads Error.
		result = map[string]string{"Err": err.Error(), "Error": err.Error()}
	}
	m.logCall(r, met.quiet, start, status, err)
	body, err := json.Marshal(result)
	if err != nil { // cannot be: our own structs
		status, body = http.StatusInternalServerError, []byte(`{"Err":"answer is not JSON"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // an engine that has hung up needs no answer
}

func (m *Mux) answer(w http.ResponseWriter, r *http.Request, met method, known bool) (result any, err error) {
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return nil, &statusError{http.StatusMethodNotAllowed, fmt.Sprintf("%s %s: want POST", r.Method, r.URL.Path)}
	case r.URL.Path == "/Plugin.Activate":
		for _, f := range m.activated {
			f()
		}
		return map[string][]string{"Implements": m.implements}, nil
	case !known:
		// Must be 404: only then does dockerd take a method for optional.
		return nil, &statusError{http.StatusNotFound, fmt.Sprintf("%s: no such method here", r.URL.Path)}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			return nil, &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("%s: request is larger than %d bytes", r.URL.Path, maxBody)}
		}
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("%s: read request: %v", r.URL.Path, err)}
	}
	if !met.empty && len(bytes.TrimSpace(body)) == 0 {
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("%s: request is empty; it was probably sent before, on a connection that broke", r.URL.Path)}
	}
	defer func() {
		// A dropped connection would make dockerd repeat the call for 15 s.
		if p := recover(); p != nil {
			m.log.Error("call panicked", "method", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			result, err = nil, fmt.Errorf("%s: internal error: %v", r.URL.Path, p)
		}
	}()
	return met.call(r.Context(), body)
}

func (m *Mux) logCall(r *http.Request, quiet bool, start time.Time, status int, err error) {
	level := slog.LevelInfo
	if quiet {
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{slog.String("method", r.URL.Path), slog.Int("status", status), slog.Duration("took", time.Since(start))}
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	m.log.LogAttrs(r.Context(), level, "call", attrs...)
}
