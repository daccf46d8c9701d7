package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A host is a network namespace that plays the host, with directories of its own.
type host struct {
	t   *testing.T
	ns  *netns.Handle
	r   *Runtime
	log bytes.Buffer
}

// newHost returns a host whose CNI executables are those of the reference.
func newHost(t *testing.T) *host {
	h := &host{t: t, ns: netnstest.New(t)}
	dir := t.TempDir()
	t.Setenv("BOWLINE_RUN_DIR", filepath.Join(dir, "run"))
	t.Setenv("BOWLINE_LIB_DIR", filepath.Join(dir, "lib"))
	t.Setenv("BOWLINE_CNI_PATH", referenceDir(t))
	h.r = New(&h.log)
	t.Cleanup(func() {
		left, _ := filepath.Glob(filepath.Join(dir, "run/netns/*"))
		for _, path := range left {
			netns.Remove(path)
		}
	})
	return h
}

// referenceDir returns where the reference plugins are.
func referenceDir(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("BOWLINE_REFERENCE_CNI"), "/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "host-local")); err == nil && dir != "" {
			return dir
		}
	}
	netnstest.Skip(t, "needs the CNI reference plugins, in $BOWLINE_REFERENCE_CNI or /usr/lib/cni")
	return ""
}

// do runs f as if on the host and fails the test if it does.
func (h *host) do(f func(ctx context.Context) error) {
	h.t.Helper()
	if err := h.try(f); err != nil {
		h.t.Fatalf("%v\nlog: %s", err, h.log.String())
	}
}

func (h *host) try(f func(ctx context.Context) error) error {
	return netns.Do(h.ns, func() error { return f(h.t.Context()) })
}

// run returns what a command prints in the namespace at path, or on the host.
func (h *host) run(path string, argv ...string) string {
	h.t.Helper()
	ns := h.ns
	if path != "" {
		var err error
		if ns, err = netns.Open(path); err != nil {
			h.t.Fatal(err)
		}
		defer ns.Close()
	}
	var out []byte
	err := netns.Do(ns, func() (err error) {
		out, err = exec.Command(argv[0], argv[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		h.t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return string(out)
}

// reference returns a configuration list of the reference bridge plugin.
func (h *host) reference(name, bridge, subnet string) []byte {
	return fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"bridge","bridge":%q,"isGateway":true,
		"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]]}}]}`,
		name, bridge, h.leases(), subnet)
}

func (h *host) leases() string { return filepath.Join(os.Getenv("BOWLINE_RUN_DIR"), "leases") }

// leaseFiles returns the addresses that host-local has given out.
func (h *host) leaseFiles(network string) []string {
	all, _ := filepath.Glob(filepath.Join(h.leases(), network, "[0-9]*"))
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	return all
}

// network creates a network of the reference plugin.
func (h *host) network(name, bridge, subnet string) {
	h.t.Helper()
	h.do(func(ctx context.Context) error {
		_, err := h.r.CreateNetwork(ctx, NetworkSpec{Conf: h.reference(name, bridge, subnet)})
		return err
	})
}

func (h *host) sandbox(name string) (s Sandbox) {
	h.t.Helper()
	h.do(func(ctx context.Context) (err error) {
		s, err = h.r.CreateSandbox(ctx, name)
		return err
	})
	return s
}

func (h *host) connect(c ConnectSpec) (a Attachment) {
	h.t.Helper()
	h.do(func(ctx context.Context) (err error) {
		a, err = h.r.Connect(ctx, c)
		return err
	})
	return a
}

// records returns all files below the run and lib directories but locks.
func (h *host) records() []string {
	h.t.Helper()
	var found []string
	for _, dir := range []string{os.Getenv("BOWLINE_RUN_DIR"), os.Getenv("BOWLINE_LIB_DIR")} {
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			name := filepath.Base(path)
			if err == nil && d.Type().IsRegular() && name != "locks" && name != "lock" && !strings.HasPrefix(name, "last_reserved") {
				found = append(found, strings.TrimPrefix(path, filepath.Dir(dir)))
			}
			return nil
		})
	}
	return found
}

func TestAttachAndBack(t *testing.T) {
	h := newHost(t)
	h.network("web", "br0", "10.9.0.0/24")
	s1, s2 := h.sandbox("one"), h.sandbox("two")
	a1 := h.connect(ConnectSpec{Sandbox: "one", Network: "web"})
	a2 := h.connect(ConnectSpec{Sandbox: "two", Network: "web", IPs: []netip.Addr{netip.MustParseAddr("10.9.0.77")}, IfName: "net0"})
	if got := a2.Addrs; len(got) != 1 || got[0].String() != "10.9.0.77/24" {
		t.Errorf("requested address: got %v", got)
	}
	h.run(s1.Path, "ping", "-c1", "-W2", "10.9.0.77")
	if out := h.run(s2.Path, "ip", "-o", "link"); !strings.Contains(out, "net0") || !strings.Contains(out, "lo: <LOOPBACK,UP,LOWER_UP>") {
		t.Errorf("links of two are %s", out)
	}
	h.do(func(ctx context.Context) error {
		rows, err := h.r.Endpoints(ctx)
		if len(rows) != 2 || rows[0].Container != "one" || rows[0].Addrs[0] != a1.Addrs[0] || rows[0].Driver != "bridge" {
			t.Errorf("Endpoints: %+v", rows)
		}
		return err
	})
	h.do(func(ctx context.Context) error { return h.r.Disconnect(ctx, "one", "web", "") })
	if got := h.leaseFiles("web"); len(got) != 1 {
		t.Errorf("leases after one disconnect: %v", got)
	}
	h.do(func(ctx context.Context) error { return h.r.RemoveSandbox(ctx, "two", false) })
	h.do(func(ctx context.Context) error { return h.r.RemoveSandbox(ctx, "one", false) })
	h.do(func(ctx context.Context) error { return h.r.RemoveNetwork(ctx, "web", false) })
	if got := h.records(); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	if out := h.run("", "ip", "-o", "link", "show", "type", "veth"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}

func TestConnectRefuses(t *testing.T) {
	h := newHost(t)
	h.network("web", "br0", "10.9.0.0/24")
	h.sandbox("one")
	h.connect(ConnectSpec{Sandbox: "one", Network: "web"})
	tests := []struct {
		name string
		c    ConnectSpec
		want error
		text string
	}{
		{"twice", ConnectSpec{Sandbox: "one", Network: "web"}, bowline.ErrConflict, "is on network \"web\" already, as eth0"},
		{"link taken", ConnectSpec{Sandbox: "one", Network: "web", IfName: "eth0"}, bowline.ErrConflict, "has a link eth0 already"},
		{"bad link", ConnectSpec{Sandbox: "one", Network: "web", IfName: "a/b"}, bowline.ErrInvalid, "want 1 to 15 characters"},
		{"no sandbox", ConnectSpec{Sandbox: "two", Network: "web"}, bowline.ErrUnknown, `no sandbox "two"`},
		{"no network", ConnectSpec{Sandbox: "one", Network: "wob"}, bowline.ErrUnknown, `no network "wob"`},
		{"address of elsewhere", ConnectSpec{Sandbox: "one", Network: "web", IfName: "eth1", IPs: []netip.Addr{netip.MustParseAddr("10.8.0.1")}}, nil, "10.8.0.1"},
		{"two addresses", ConnectSpec{Sandbox: "one", Network: "web", IfName: "eth1", IPs: make([]netip.Addr, 2)}, bowline.ErrInvalid, "at most one"},
	}
	before := h.records()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := h.try(func(ctx context.Context) error {
				_, err := h.r.Connect(ctx, tt.c)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), tt.text) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %q wrapping %v", err, tt.text, tt.want)
			}
			if got := h.records(); len(got) != len(before) {
				t.Errorf("records are %v, were %v", got, before)
			}
		})
	}
}

// A plugin that ignores what it was asked for must not pass.
func TestConnectVerifiesRequest(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	script := "#!/bin/sh\n[ $CNI_COMMAND = VERSION ] && echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}'\n" +
		"[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.9/24\"}]}'\nexit 0\n"
	if err := os.WriteFile(filepath.Join(dir, "stubborn"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BOWLINE_CNI_PATH", dir)
	h.r = New(&h.log)
	h.do(func(ctx context.Context) error {
		_, err := h.r.CreateNetwork(ctx, NetworkSpec{Conf: []byte(`{"cniVersion":"1.0.0","name":"web","type":"stubborn"}`)})
		return err
	})
	h.sandbox("one")
	err := h.try(func(ctx context.Context) error {
		_, err := h.r.Connect(ctx, ConnectSpec{Sandbox: "one", Network: "web", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.7")}})
		return err
	})
	if !errors.Is(err, bowline.ErrUnavailable) || !strings.Contains(err.Error(), "stubborn ignored the requested address 10.0.0.7") {
		t.Errorf("got %v", err)
	}
	if got := h.connect(ConnectSpec{Sandbox: "one", Network: "web"}).Addrs; fmt.Sprint(got) != "[10.0.0.9/24]" {
		t.Errorf("without a request: %v", got)
	}
}

func TestRemoveNetworkInUse(t *testing.T) {
	h := newHost(t)
	h.network("web", "br0", "10.9.0.0/24")
	h.sandbox("one")
	h.connect(ConnectSpec{Sandbox: "one", Network: "web"})
	err := h.try(func(ctx context.Context) error { return h.r.RemoveNetwork(ctx, "web", false) })
	if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), `attached are ["one"]`) {
		t.Errorf("got %v", err)
	}
	h.do(func(ctx context.Context) error { return h.r.RemoveNetwork(ctx, "web", true) })
	if got := h.leaseFiles("web"); len(got) != 0 {
		t.Errorf("leases: %v", got)
	}
}
