package cnm

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/internal/meter"
	"github.com/bowline-net/bowline/internal/state"
)

// A buffer that a server writes to while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Each call's log line says what it is about and whose trace it is of, and how
// long it took is counted, by how it ended.
func TestCallsAreTold(t *testing.T) {
	stateDirs(t)
	t.Setenv("BOWLINE_PLUGIN_DIR", t.TempDir())
	r := newRecorder()
	path := SocketPath("bowline-rec")
	var log lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, Config{Sockets: []string{path}, Log: journal.New(&log, slog.LevelInfo), Network: &NetworkDriver{Driver: r, Name: "rec", LinkExists: r.exists}})
	}()
	activate(t, path)
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for range 2 {
		body := strings.NewReader(`{"NetworkID":"n1","EndpointID":"e1","SandboxKey":"/var/run/docker/netns/x"}`)
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://plugin/NetworkDriver.Join", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("Join of an unknown network: status %d", resp.StatusCode)
		}
	}
	c.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"level=WARN msg=call method=/NetworkDriver.Join status=500",
		"network=n1 endpoint=e1 sandbox=/var/run/docker/netns/x trace=0af7651916cd43dd8448eb211c80319c",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %q:\n%s", want, log.String())
		}
	}
	all, err := meter.Read(state.MeterFile("rec"))
	if err != nil || len(all) != 1 || all[0].Face != "docker" || all[0].Verb != "NetworkDriver.Join" || all[0].Code == 0 || all[0].Count() != 2 {
		t.Errorf("%s: %v, %+v", filepath.Base(state.MeterFile("rec")), err, all)
	}
}
