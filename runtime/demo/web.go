package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	port         = "8080"
	probeTimeout = time.Second
	readyLine    = "ready\n"
)

// Serve answers HTTP requests with name on all addresses of the namespace that
// it runs in. It says on out when it is ready, and ends with in.
func Serve(ctx context.Context, name string, in io.Reader, out io.Writer) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return err
	}
	s := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, name)
		}),
	}
	go func() {
		io.Copy(io.Discard, in)
		s.Close()
	}()
	if _, err := io.WriteString(out, readyLine); err != nil {
		return err
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Probe reads addresses from in, asks the server of each, all at once, and
// writes to out what those that answered said.
func Probe(ctx context.Context, in io.Reader, out io.Writer) error {
	var addrs []netip.Addr
	if err := json.NewDecoder(in).Decode(&addrs); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	answers := make([]string, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() { answers[i] = get(ctx, client, url(addr)) })
	}
	wg.Wait()
	said := map[netip.Addr]string{}
	for i, addr := range addrs {
		if answers[i] != "" {
			said[addr] = answers[i]
		}
	}
	return json.NewEncoder(out).Encode(said)
}

// get returns what the server at u says, or "" if it does not answer.
func get(ctx context.Context, client *http.Client, u string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return ""
	}
	resp, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}

// A server is a process that runs [Serve] inside a sandbox.
type server struct {
	cmd *exec.Cmd
	in  io.Closer
}

// startServer starts a server and waits until it is ready.
func startServer(ctx context.Context, self, sandbox, name string) (*server, error) {
	// A cancelled demo stops its servers in order, too.
	c := exec.CommandContext(context.WithoutCancel(ctx), self, "sandbox", "exec", sandbox, self, "demo", "serve", name)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr tail
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("server in %s: %w", name, err)
	}
	s := &server{c, in}
	stop := context.AfterFunc(ctx, func() { in.Close() })
	defer stop()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != readyLine {
		s.stop()
		return nil, fmt.Errorf("server in %s: said %q instead of being ready: %w: %s", name, line, err, stderr.text())
	}
	return s, nil
}

// stop ends the server and waits for it.
func (s *server) stop() error {
	s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// A tail keeps what a process wrote, for the error.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
