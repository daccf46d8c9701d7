package cnm

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestServe(t *testing.T) {
	stateDirs(t)
	dir := t.TempDir()
	t.Setenv("BOWLINE_PLUGIN_DIR", dir)
	r := newRecorder()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	paths := []string{SocketPath("bowline-rec"), SocketPath("bowline-other")}
	if want := filepath.Join(dir, "bowline-rec.sock"); paths[0] != want {
		t.Errorf("SocketPath = %s, want %s", paths[0], want)
	}
	config := func() Config {
		return Config{Sockets: paths, Log: log, IPAM: &IPAMDriver{}, Network: &NetworkDriver{Driver: r, Name: "rec", LinkExists: r.exists}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, config()) }()
	for _, path := range paths {
		if got, want := activate(t, path), `{"Implements":["IpamDriver","NetworkDriver"]}`; got != want {
			t.Errorf("%s says %s, want %s", path, got, want)
		}
	}
	if err := Serve(t.Context(), config()); err == nil || !strings.Contains(err.Error(), "another server answers there") {
		t.Errorf("second server: %v, want: another server answers there", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v, want nil", err)
	}
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// activate asks what the server at path implements, once it is there.
func activate(t *testing.T, path string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer c.CloseIdleConnections()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); ; <-tick.C {
		resp, err := c.Post("http://plugin/Plugin.Activate", "", nil)
		if err == nil {
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestServeWithoutSocket(t *testing.T) {
	if err := Serve(t.Context(), Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}); err == nil {
		t.Error("Serve without a socket succeeds")
	}
}

func TestSweepFiles(t *testing.T) {
	stateDirs(t)
	for _, dir := range []string{os.Getenv("BOWLINE_RUN_DIR"), os.Getenv("BOWLINE_LIB_DIR")} {
		path := filepath.Join(dir, "networks", ".tmp-1")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		sweepFiles(t.Context(), slog.New(slog.DiscardHandler), time.Millisecond)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want it gone", path, err)
		}
	}
}
