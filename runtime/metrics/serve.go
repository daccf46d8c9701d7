package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"
)

// Listen listens at an address such as 127.0.0.1:9477, or on the unix socket of
// "unix:PATH". A socket that nobody answers is replaced.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	path, unix := strings.CutPrefix(addr, "unix:")
	if !unix {
		return lc.Listen(ctx, "tcp", addr)
	}
	l, err := lc.Listen(ctx, "unix", path)
	if err == nil {
		return l, nil
	}
	if c, derr := new(net.Dialer).DialContext(ctx, "unix", path); derr == nil {
		c.Close()
		return nil, err
	}
	if info, serr := os.Lstat(path); serr != nil || info.Mode().Type() != os.ModeSocket || os.Remove(path) != nil {
		return nil, err
	}
	return lc.Listen(ctx, "unix", path)
}

// Serve answers GET /metrics until ctx is done, and closes the listener.
func Serve(ctx context.Context, l net.Listener, c *Collector) error {
	r, err := registry(c)
	if err != nil {
		return err
	}
	errorLog := slog.NewLogLogger(c.log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorLog: errorLog, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<a href="/metrics">metrics</a>`)
	})
	s := &http.Server{Handler: mux, ErrorLog: errorLog, ReadHeaderTimeout: patience}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.Shutdown(end)
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Write writes the metrics once, in the text format.
func Write(w io.Writer, c *Collector) error {
	r, err := registry(c)
	if err != nil {
		return err
	}
	families, err := r.Gather()
	for _, f := range families {
		if _, werr := expfmt.MetricFamilyToText(w, f); werr != nil {
			return werr
		}
	}
	return err
}

func registry(c *Collector) (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	return r, r.Register(c)
}
