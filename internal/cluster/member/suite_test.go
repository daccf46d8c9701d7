package member

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/cluster"
	"github.com/bowline-net/bowline/internal/cluster/clustertest"
	"github.com/bowline-net/bowline/internal/cluster/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// dial returns a client whose way to the members can be cut.
func dial(t *testing.T, c etcd.Config) (cluster.Store, func(bool)) {
	t.Helper()
	var cuts []func(bool)
	endpoints := c.Endpoints
	c.Endpoints = nil
	for _, e := range endpoints {
		address, cut := clustertest.Proxy(t, host(), strings.TrimPrefix(e, "https://"))
		c.Endpoints, cuts = append(c.Endpoints, "https://"+address), append(cuts, cut)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := etcd.Dial(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, func(cut bool) {
		for _, f := range cuts {
			f(cut)
		}
	}
}

func client(p pki, configs ...Config) etcd.Config {
	c := etcd.Config{CA: p.ca, Cert: p.cert, Key: p.key, Probe: 300 * time.Millisecond}
	for _, m := range configs {
		c.Endpoints = append(c.Endpoints, m.Client)
	}
	return c
}

// admin returns etcd's own client, for what ours does not do.
func admin(t *testing.T, p pki, user string, configs ...Config) *clientv3.Client {
	t.Helper()
	c := clientv3.Config{Username: user, Password: user, DialTimeout: 10 * time.Second}
	for _, m := range configs {
		c.Endpoints = append(c.Endpoints, m.Client)
	}
	tls, err := configs[0].etcd()
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS, err = tls.ClientTLSInfo.ClientConfig(); err != nil {
		t.Fatal(err)
	}
	a, err := clientv3.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func compact(a *clientv3.Client) func(t *testing.T, before int64) {
	return func(t *testing.T, before int64) {
		t.Helper()
		if _, err := a.Compact(t.Context(), before, clientv3.WithCompactPhysical()); err != nil {
			t.Error(err)
		}
	}
}

// TestThree runs the suite on three members.
func TestThree(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	configs := []Config{config(t, p, "a"), config(t, p, "b"), config(t, p, "c")}
	peers := map[string]string{}
	for _, c := range configs {
		peers[c.Name] = c.Peer
	}
	for i := range configs {
		configs[i].Peers = peers
	}
	members := start(t, configs...)
	clustertest.Run(t, clustertest.Cluster{
		Client:  func(t *testing.T) (cluster.Store, func(bool)) { return dial(t, client(p, configs...)) },
		Compact: compact(admin(t, p, "", configs...)),
		StopLeader: func(t *testing.T) {
			for _, m := range members {
				if m.Leads() {
					stop(t, m)
					return
				}
			}
			t.Error("no member leads")
		},
	})
}

// TestOne runs the suite on one member that wants a password besides, as an etcd
// of somebody else's may.
func TestOne(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	c := config(t, p, "a")
	backup := restorable(t, c)
	protect(t, admin(t, p, "", c))
	clustertest.Run(t, clustertest.Cluster{
		Client: func(t *testing.T) (cluster.Store, func(bool)) {
			ours := client(p, c)
			ours.User, ours.Password = "node", "node"
			return dial(t, ours)
		},
		Compact: compact(admin(t, p, "root", c)),
		Backup:  backup,
	})
}

// restorable starts a member, and returns what copies its directory and brings
// the copy back: the same cluster, at an older revision.
func restorable(t *testing.T, c Config) (backup func(*testing.T) func(*testing.T)) {
	t.Helper()
	m := start(t, c)[0]
	t.Cleanup(func() { stop(t, m) })
	restart := func(t *testing.T, change func()) {
		stop(t, m)
		change()
		var err error
		if m, err = Start(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return func(t *testing.T) func(*testing.T) {
		saved := filepath.Join(t.TempDir(), "saved")
		restart(t, func() { copyDir(t, saved, c.Dir) })
		return func(t *testing.T) {
			restart(t, func() {
				if err := os.RemoveAll(c.Dir); err != nil {
					t.Fatal(err)
				}
				copyDir(t, c.Dir, saved)
			})
		}
	}
}

// TestProbe restores a store behind the back of a watch, whose client connects
// again by itself and without a word: the store is silent, and only asking shows
// that it is behind.
func TestProbe(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	c := config(t, p, "a")
	restore := restorable(t, c)(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, cut := dial(t, client(p, c))
	w := s.Watch("/", cluster.View{})
	defer w.Close()
	for range 3 { // the first is listed, the others come as they happen
		if _, err := s.Commit(ctx, cluster.Txn{Then: []cluster.Op{cluster.Put("/a", "")}}); err != nil {
			t.Fatal(err)
		}
		if change, err := w.Next(ctx); err != nil || len(change.Events) != 1 {
			t.Fatalf("change is %+v, %v", change, err)
		}
	}
	done := make(chan error)
	go func() {
		change, err := w.Next(ctx)
		if err == nil && (!change.Rewound || len(change.Events) != 1 || change.Events[0].New.Exists()) {
			t.Errorf("change is %+v, want that the store was rewound to nothing", change)
		}
		done <- err
	}()
	cut(true)
	restore(t)
	cut(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// protect has the members want passwords: users are called by them.
func protect(t *testing.T, a *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	for _, f := range []func() error{
		func() error { _, err := a.UserAdd(ctx, "root", "root"); return err },
		func() error { _, err := a.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := a.RoleAdd(ctx, "node"); return err },
		func() error {
			_, err := a.RoleGrantPermission(ctx, "node", "/", "0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := a.UserAdd(ctx, "node", "node"); return err },
		func() error { _, err := a.UserGrantRole(ctx, "node", "node"); return err },
		func() error { _, err := a.AuthEnable(ctx); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
}

func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
