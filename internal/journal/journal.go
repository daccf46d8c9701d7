// Package journal makes the loggers of the faces. Each line says which call it
// belongs to: who calls puts that into the context once, and all that is logged
// with the context has it.
package journal

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// The variables that choose how a process logs where it has no flags for it, as
// when it runs one CNI command.
const (
	EnvFormat = "BOWLINE_LOG_FORMAT" // "text" or "json"; default text
	EnvLevel  = "BOWLINE_LOG_LEVEL"  // "debug", "info", "warn" or "error"; default info
)

// New returns a logger that writes lines from level on to w, in the format that
// [EnvFormat] names. A nil level is that of [EnvLevel]. Values that make no sense
// count as the default: a log must not keep anything from working.
func New(w io.Writer, level slog.Leveler) *slog.Logger {
	if level == nil {
		level = envLevel()
	}
	return slog.New(newHandler(w, level))
}

// Lazy returns New(w, nil), but it costs nothing until there is something to
// log: most processes that run one command have nothing to say.
func Lazy(w io.Writer) *slog.Logger { return slog.New(&lazy{w: w}) }

func envLevel() slog.Level {
	var l slog.Level
	if text := os.Getenv(EnvLevel); text == "" || l.UnmarshalText([]byte(text)) != nil {
		return slog.LevelInfo
	}
	return l
}

func newHandler(w io.Writer, level slog.Leveler) slog.Handler {
	o := &slog.HandlerOptions{Level: level}
	if strings.EqualFold(os.Getenv(EnvFormat), "json") {
		return handler{slog.NewJSONHandler(w, o)}
	}
	return handler{slog.NewTextHandler(w, o)}
}

// lazy becomes a handler when it is first asked for more than whether to log.
type lazy struct {
	w    io.Writer
	once sync.Once
	real slog.Handler
}

func (l *lazy) handler() slog.Handler {
	l.once.Do(func() { l.real = newHandler(l.w, envLevel()) })
	return l.real
}

func (l *lazy) Enabled(_ context.Context, level slog.Level) bool { return level >= envLevel() }
func (l *lazy) Handle(ctx context.Context, r slog.Record) error  { return l.handler().Handle(ctx, r) }
func (l *lazy) WithAttrs(attrs []slog.Attr) slog.Handler         { return l.handler().WithAttrs(attrs) }
func (l *lazy) WithGroup(name string) slog.Handler               { return l.handler().WithGroup(name) }

type key struct{}

// What a context says, after what the one before it says.
type said struct {
	before *said
	args   func() []any
}

// With returns a context whose log lines have the attributes, given as to
// [slog.Logger.With], after those that ctx has already. Strings that are empty
// are left out.
func With(ctx context.Context, args ...any) context.Context {
	return WithFunc(ctx, func() []any { return args })
}

// WithFunc is With for attributes that are only made if something is logged.
func WithFunc(ctx context.Context, args func() []any) context.Context {
	before, _ := ctx.Value(key{}).(*said)
	return context.WithValue(ctx, key{}, &said{before, args})
}

func (s *said) attrs() []slog.Attr {
	if s == nil {
		return nil
	}
	all := s.before.attrs()
	for _, a := range slog.Group("", s.args()...).Value.Group() {
		if a.Value.Kind() != slog.KindString || a.Value.String() != "" {
			all = append(all, a)
		}
	}
	return all
}

// A handler adds what the context says.
type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if s, ok := ctx.Value(key{}).(*said); ok {
		r = r.Clone()
		r.AddAttrs(s.attrs()...)
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

// TraceID returns the trace that the value of a traceparent header, or of
// TRACEPARENT in the environment, names; "" if it is not well formed (W3C Trace
// Context, 3.2; OpenTelemetry, "Environment Variables as Context Propagation
// Carriers").
func TraceID(traceparent string) string {
	f := strings.Split(traceparent, "-")
	if len(f) < 4 || len(f) > 4 && f[0] == "00" || !hex(f[0], 2) || f[0] == "ff" || !hex(f[1], 32) || !hex(f[2], 16) || !hex(f[3], 2) ||
		strings.Trim(f[1], "0") == "" || strings.Trim(f[2], "0") == "" {
		return ""
	}
	return f[1]
}

// hex reports whether s is n lower-case hexadecimal digits.
func hex(s string, n int) bool { return len(s) == n && strings.Trim(s, "0123456789abcdef") == "" }
