package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type echo struct{ Text string }

// newMux answers what a plugin could: an echo, a failure, a panic.
func newMux(log io.Writer) *Mux {
	m := NewMux(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	m.Implements("NetworkDriver")
	m.Implements("IpamDriver")
	m.Implements("IpamDriver")
	HandleEmpty(m, "T.Capabilities", func(context.Context) (echo, error) { return echo{"local"}, nil })
	Handle(m, "T.Echo", func(_ context.Context, e echo) (echo, error) { return e, nil })
	Handle(m, "T.Fail", func(context.Context, echo) (echo, error) { return echo{}, errors.New(`no "room"`) })
	Handle(m, "T.Panic", func(context.Context, echo) (echo, error) { panic("boom") })
	return m
}

// client talks to the socket at path and keeps its connections, as dockerd does.
func client(t *testing.T, path string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func post(t *testing.T, c *http.Client, method, body string) (status int, answer string) {
	t.Helper()
	r, err := c.Post("http://plugin/"+method, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Header.Get("Content-Type"); got != contentType {
		t.Errorf("%s: content type is %q, want %q", method, got, contentType)
	}
	return r.StatusCode, strings.TrimSpace(string(b))
}

// start serves m on a socket of the test and returns its path, and what ends
// the server and returns its error.
func start(t *testing.T, m *Mux) (path string, end func() error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "p.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, m, l) }()
	end = func() error { cancel(); return <-done }
	t.Cleanup(func() { cancel() })
	return path, end
}

func TestCalls(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	path, end := start(t, newMux(&log))
	c := client(t, path)
	tests := []struct {
		name, method, body string
		status             int
		want               string
	}{
		{"activate", "Plugin.Activate", "", 200, `{"Implements":["NetworkDriver","IpamDriver"]}`},
		{"without a request", "T.Capabilities", "", 200, `{"Text":"local"}`},
		{"without a request, one given", "T.Capabilities", "{}", 200, `{"Text":"local"}`},
		{"with a request", "T.Echo", `{"Text":"a","Unknown":1}`, 200, `{"Text":"a"}`},
		{"drained body", "T.Echo", "", 400, `{"Err":"/T.Echo: request is empty; it was probably sent before, on a connection that broke","Error":"/T.Echo: request is empty; it was probably sent before, on a connection that broke"}`},
		{"not JSON", "T.Echo", "{", 400, `{"Err":"T.Echo: request is not the JSON it should be: unexpected end of JSON input","Error":"T.Echo: request is not the JSON it should be: unexpected end of JSON input"}`},
		{"unknown method", "T.Nothing", "{}", 404, `{"Err":"/T.Nothing: no such method here","Error":"/T.Nothing: no such method here"}`},
		{"failure", "T.Fail", "{}", 500, `{"Err":"no \"room\"","Error":"no \"room\""}`},
		{"panic", "T.Panic", "{}", 500, `{"Err":"/T.Panic: internal error: boom","Error":"/T.Panic: internal error: boom"}`},
		{"too large", "T.Echo", `{"Text":"` + strings.Repeat("x", maxBody) + `"}`, 413, `{"Err":"/T.Echo: request is larger than 8388608 bytes","Error":"/T.Echo: request is larger than 8388608 bytes"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, got := post(t, c, tt.method, tt.body)
			if status != tt.status || got != tt.want {
				t.Errorf("got %d %s\nwant %d %s", status, got, tt.status, tt.want)
			}
		})
	}
	r, err := c.Get("http://plugin/T.Echo")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered with %d, want 405", r.StatusCode)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`level=INFO msg=call method=/T.Echo status=200`, `level=WARN msg=call method=/T.Fail status=500`, `error="no \"room\""`, `level=DEBUG msg=call method=/T.Capabilities`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %s", want)
		}
	}
}

func TestEndFinishesCallsAndClosesConnections(t *testing.T) {
	t.Parallel()
	m := newMux(io.Discard)
	entered, leave := make(chan struct{}), make(chan struct{})
	Handle(m, "T.Slow", func(ctx context.Context, e echo) (echo, error) {
		close(entered)
		<-leave
		return e, ctx.Err()
	})
	path, end := start(t, m)
	c := client(t, path)
	post(t, c, "T.Echo", "{}") // leaves an idle connection
	type reply struct {
		status int
		body   string
	}
	replies := make(chan reply, 1)
	go func() {
		status, body := post(t, c, "T.Slow", `{"Text":"done"}`)
		replies <- reply{status, body}
	}()
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	waitFor(t, "the socket to go", func() bool { _, err := os.Lstat(path); return errors.Is(err, fs.ErrNotExist) })
	close(leave)
	if r := <-replies; r.status != 200 || r.body != `{"Text":"done"}` {
		t.Errorf("call under way got %d %s, want its answer", r.status, r.body)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v, want nil", err)
	}
	if _, err := c.Post("http://plugin/T.Echo", contentType, strings.NewReader("{}")); err == nil {
		t.Error("an old connection still reaches the server that ended")
	}
}

// TestHangUpEndsCall kills the client in the middle of a call.
func TestHangUpEndsCall(t *testing.T) {
	t.Parallel()
	m := newMux(io.Discard)
	entered, ended := make(chan struct{}), make(chan error, 1)
	Handle(m, "T.Slow", func(ctx context.Context, e echo) (echo, error) {
		close(entered)
		select {
		case <-ctx.Done():
			ended <- ctx.Err()
		case <-time.After(5 * time.Second):
			ended <- nil
		}
		return e, ctx.Err()
	})
	path, _ := start(t, m)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "POST /T.Slow HTTP/1.1\r\nHost: plugin\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	<-entered
	c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the call of a client that is gone: %v, want %v", err, context.Canceled)
	}
}

func TestActivateTells(t *testing.T) {
	t.Parallel()
	m := newMux(io.Discard)
	var told int
	m.OnActivate(func() { told++ })
	for range 2 {
		m.Call(t.Context(), "Plugin.Activate", nil)
	}
	m.Call(t.Context(), "T.Echo", []byte("{}"))
	if told != 2 {
		t.Errorf("told %d times, want 2", told)
	}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 5 s for %s", what)
		}
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		before  func(t *testing.T, path string)
		wantErr string // after "listen on PATH: "
	}{
		{"nothing there", func(*testing.T, string) {}, ""},
		{"stale socket", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, ""},
		{"live server", func(t *testing.T, path string) {
			l, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "another server answers there"},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "there is something that is not a socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "p.sock")
			tt.before(t, path)
			l, err := Listen(path)
			if tt.wantErr != "" {
				if err == nil || err.Error() != "listen on "+path+": "+tt.wantErr {
					t.Fatalf("Listen: %v\nwant %s", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("socket is %v, %v; want mode %v", info, err, fs.ModeSocket|0o600)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 0 {
				t.Errorf("left behind %v", entries)
			}
		})
	}
}

// A server that was killed while it was binding leaves nothing for good.
func TestListenSweeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left := filepath.Join(dir, newborn+"1")
	if err := errors.Join(os.Mkdir(left, 0o700), os.WriteFile(filepath.Join(left, "s"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(filepath.Join(dir, "x.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestCloseLeavesSuccessorsSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "p.sock")
	old, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody removed the socket of a live server, so a second one could start.
	os.Remove(path)
	successor, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer successor.Close()
	old.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the old server took its successor's socket away: %v", err)
	}
}

func TestOneOfManyStartersWins(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "p.sock")
	type result struct {
		l   net.Listener
		err error
	}
	results := make(chan result)
	const n = 8
	for range n {
		go func() { l, err := Listen(path); results <- result{l, err} }()
	}
	won := 0
	for range n {
		if r := <-results; r.err == nil {
			won++
			defer r.l.Close()
		}
	}
	if won != 1 {
		t.Errorf("%d servers think they own the socket, want 1", won)
	}
}

// TestActivated runs this test binary again with a socket as descriptor 3, as
// systemd does.
func TestActivated(t *testing.T) {
	if os.Getenv("SOCKET_TEST_CHILD") == "1" {
		ls, err := Activated()
		if err != nil || len(ls) != 1 || os.Getenv("LISTEN_FDS") != "" {
			t.Fatalf("Activated = %v, %v; LISTEN_FDS=%q", ls, err, os.Getenv("LISTEN_FDS"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		m := newMux(io.Discard)
		Handle(m, "T.End", func(context.Context, echo) (echo, error) { cancel(); return echo{}, nil })
		if err := Serve(ctx, m, ls...); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "p.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// sh becomes the child, so that $$ is its process ID.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", os.Args[0], "-test.run=^TestActivated$")
	cmd.Env = append(os.Environ(), "SOCKET_TEST_CHILD=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=x")
	cmd.ExtraFiles = []*os.File{f}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if status, got := post(t, client(t, path), "T.End", `{}`); status != 200 {
		t.Errorf("got %d %s", status, got)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("child: %v\n%s", err, out.String())
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("a socket of systemd was removed: %v", err)
	}
}

func TestActivatedByNobody(t *testing.T) {
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "3")
	if ls, err := Activated(); err != nil || ls != nil {
		t.Errorf("Activated = %v, %v for another process's sockets; want none", ls, err)
	}
}
