package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	describe   func(ctx context.Context, traceparent string, body []byte) context.Context
	ended      func(name string, err error, took time.Duration)
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

// Describe has f make the context in which a call is served and logged, from its
// traceparent header and its body.
func (m *Mux) Describe(f func(ctx context.Context, traceparent string, body []byte) context.Context) {
	m.describe = f
}

// OnEnd has f called after each call of a method that is served here: with its
// name, such as "NetworkDriver.Join", how it ended and how long it took.
func (m *Mux) OnEnd(f func(name string, err error, took time.Duration)) { m.ended = f }

// Handle serves the method, such as "NetworkDriver.Join", with f. A call
// without a body is refused with 400: dockerd repeats a call whose connection
// broke with the body that it has read already, that is, with none. An error
// with a method Code() int tells clients of ours that number, see [CallError].
func Handle[Req, Resp any](m *Mux, name string, f func(context.Context, Req) (Resp, error)) {
	m.methods["/"+name] = method{call: func(ctx context.Context, body []byte) (any, error) {
		var req Req
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, &statusError{statusBadRequest, fmt.Sprintf("%s: request is not the JSON it should be: %v", name, err)}
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

// Call makes one call, POST of body to the path of the method, such as
// "NetworkDriver.Join". It returns the HTTP status and the answer.
func (m *Mux) Call(ctx context.Context, name string, body []byte) (status int, answer []byte) {
	return m.serve(ctx, request{method: "POST", path: "/" + name, body: body})
}

func (m *Mux) serve(ctx context.Context, r request) (status int, body []byte) {
	start := time.Now()
	met, known := m.methods[r.path]
	if m.describe != nil {
		ctx = m.describe(ctx, r.traceparent, r.body)
	}
	result, err := m.answer(ctx, r, met, known)
	status = statusOK
	if err != nil {
		status = statusError500
		var se *statusError
		if errors.As(err, &se) {
			status = se.status
		}
		body = errorBody(err)
	} else if body, err = json.Marshal(result); err != nil { // cannot be: our own structs
		status, body = statusError500, errorBody(errors.New("answer is not JSON"))
	}
	m.logCall(ctx, r, met.quiet, start, status, err)
	if m.ended != nil && known {
		m.ended(r.path[1:], err, time.Since(start))
	}
	return status, append(body, '\n')
}

// errorBody says err in both ways: NetworkDriver and VolumeDriver read Err,
// IpamDriver reads Error. Clients of ours are also told the number of the cause,
// if err or what it wraps has a method Code.
func errorBody(err error) []byte {
	said := map[string]any{"Err": err.Error(), "Error": err.Error()}
	var coded interface{ Code() int }
	if errors.As(err, &coded) {
		said["Code"] = coded.Code()
	}
	body, _ := json.Marshal(said)
	return body
}

func (m *Mux) answer(ctx context.Context, r request, met method, known bool) (result any, err error) {
	switch {
	case r.method != "POST":
		return nil, &statusError{statusNotAllowed, fmt.Sprintf("%s %s: want POST", r.method, r.path)}
	case r.path == "/Plugin.Activate":
		for _, f := range m.activated {
			f()
		}
		return map[string][]string{"Implements": m.implements}, nil
	case !known:
		// Must be 404: only then does dockerd take a method for optional.
		return nil, &statusError{statusNotFound, fmt.Sprintf("%s: no such method here", r.path)}
	case !met.empty && len(bytes.TrimSpace(r.body)) == 0:
		return nil, &statusError{statusBadRequest, fmt.Sprintf("%s: request is empty; it was probably sent before, on a connection that broke", r.path)}
	}
	defer func() {
		// A dropped connection would make dockerd repeat the call for 15 s.
		if p := recover(); p != nil {
			m.log.ErrorContext(ctx, "call panicked", "method", r.path, "panic", p, "stack", string(debug.Stack()))
			result, err = nil, fmt.Errorf("%s: internal error: %v", r.path, p)
		}
	}()
	m.log.DebugContext(ctx, "request", "method", r.path, "body", json.RawMessage(r.body))
	return met.call(ctx, r.body)
}

func (m *Mux) logCall(ctx context.Context, r request, quiet bool, start time.Time, status int, err error) {
	level := slog.LevelInfo
	if quiet {
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{slog.String("method", r.path), slog.Int("status", status), slog.Duration("took", time.Since(start))}
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	m.log.LogAttrs(ctx, level, "call", attrs...)
}
