package member

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
	"github.com/bowline-net/bowline/internal/cluster/etcd"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	good := Config{Name: "a", Dir: "d", Client: "https://127.0.0.1:1", Peer: "https://127.0.0.1:2", Token: "t", CA: "c", Cert: "c", Key: "k"}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"plain client", func(c *Config) { c.Client = "http://127.0.0.1:1" }, `client address "http://127.0.0.1:1": want https://HOST:PORT`},
		{"peer without port", func(c *Config) { c.Peer = "https://127.0.0.1" }, `peer address "https://127.0.0.1": want https://HOST:PORT`},
		{"no key", func(c *Config) { c.Key = "" }, "a certificate and its key"},
		{"no token", func(c *Config) { c.Token = "" }, "a token"},
		{"not among its peers", func(c *Config) { c.Peers = map[string]string{"b": c.Peer} }, "want a=https://127.0.0.1:2 among them"},
	} {
		c := good
		tt.change(&c)
		if _, err := Start(t.Context(), c); !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want one that says %q", tt.name, err, tt.want)
		}
	}
	if _, err := good.etcd(); err != nil {
		t.Error(err)
	}
}

// TestStartFails starts members that cannot serve, and finds their ports free
// afterwards.
func TestStartFails(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	lonely := config(t, p, "a")
	lonely.Peers = map[string]string{"a": lonely.Peer, "b": free(t), "c": free(t)}
	lonely.Log = filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := Start(ctx, lonely); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no majority") {
		t.Errorf("without peers: %v", err)
	}
	if log, err := os.ReadFile(lonely.Log); err != nil || len(log) == 0 {
		t.Errorf("its log is %q, %v; want warnings", log, err)
	}
	for _, u := range []string{lonely.Client, lonely.Peer} {
		l, err := net.Listen("tcp", strings.TrimPrefix(u, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	taken := config(t, p, "a")
	taken.Peer = lonely.Peer
	if _, err := Start(t.Context(), taken); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("on a port that is taken: %v", err)
	}
	if _, err := Start(ctx, config(t, p, "a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// TestStrangers connects with what the member must not take.
func TestStrangers(t *testing.T) {
	t.Parallel()
	p, other := newPKI(t), newPKI(t)
	c := config(t, p, "a")
	start(t, c)
	protect(t, admin(t, p, "", c))
	ours := client(p, c)
	for _, tt := range []struct {
		name   string
		change func(*etcd.Config)
		want   string
		cause  error
	}{
		{"another CA's server", func(c *etcd.Config) { c.CA = other.ca }, "certificate signed by unknown authority", bowline.ErrUnavailable},
		// What the member says of it arrives only if it comes before the broken pipe.
		{"another CA's client", func(c *etcd.Config) { c.Cert, c.Key = other.cert, other.key }, "", bowline.ErrUnavailable},
		{"key of another certificate", func(c *etcd.Config) { c.Key = other.key }, "private key does not match", bowline.ErrInvalid},
		{"wrong password", func(c *etcd.Config) { c.User, c.Password = "node", "guess" }, "authentication failed", bowline.ErrInvalid},
		{"unknown user", func(c *etcd.Config) { c.User, c.Password = "nobody", "node" }, "authentication failed", bowline.ErrInvalid},
	} {
		bad := ours
		tt.change(&bad)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := etcd.Dial(ctx, bad)
		cancel()
		if !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %v that says %q", tt.name, err, tt.cause, tt.want)
		}
	}

	ours.User, ours.Password = "node", "node"
	s, _ := dial(t, ours)
	if _, err := s.List(t.Context(), "0", 0); !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("list of what the user may not see: %v", err)
	}
}

// TestAudit has a watch listed again, without anything having happened.
func TestAudit(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	c := config(t, p, "a")
	start(t, c)
	ours := client(p, c)
	ours.Audit = 100 * time.Millisecond
	s, _ := dial(t, ours)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w := s.Watch("/", cluster.View{})
	defer w.Close()
	for range 3 {
		change, err := w.Next(ctx)
		if err != nil || !change.Relisted || change.Rewound || len(change.Events) != 0 {
			t.Fatalf("change is %+v, %v; want that all is as it was", change, err)
		}
	}
}
