package runtime

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// cleared runs GC and returns what it cleared but the networks it asked.
func (h *host) cleared(dry bool) (names []string) {
	h.t.Helper()
	h.do(func(ctx context.Context) error {
		done, err := h.r.GC(ctx, dry)
		for _, c := range done {
			if c.Kind != "network" {
				names = append(names, c.Kind+" "+c.Name+": "+c.Why)
			}
		}
		return err
	})
	return names
}

func TestGC(t *testing.T) {
	tests := []struct {
		name    string
		breakIt func(t *testing.T, h *host, s Sandbox, a Attachment)
		want    []string
		left    int // leases
	}{
		{"nothing", func(*testing.T, *host, Sandbox, Attachment) {}, nil, 1},
		{"namespace unmounted", func(t *testing.T, h *host, s Sandbox, _ Attachment) {
			if err := unix.Unmount(s.Path, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}, []string{"sandbox one: its namespace is gone"}, 0},
		{"another namespace in its place", func(t *testing.T, h *host, s Sandbox, _ Attachment) {
			if err := netns.Remove(s.Path); err != nil {
				t.Fatal(err)
			}
			other, err := netns.NewAt(s.Path)
			if err != nil {
				t.Fatal(err)
			}
			other.Close()
		}, []string{"sandbox one: its namespace is gone"}, 0},
		{"previous boot", func(t *testing.T, h *host, s Sandbox, _ Attachment) {
			s.BootID = "earlier"
			put(t, h.r.sandboxes, s.Name, s)
		}, []string{"sandbox one: is of a previous boot"}, 0},
		{"killed while making the sandbox", func(t *testing.T, h *host, _ Sandbox, _ Attachment) {
			put(t, h.r.sandboxes, "two", Sandbox{Name: "two", ID: "two-1", Path: filepath.Join(h.r.netnsDir, "two"), BootID: state.BootID()})
		}, []string{"sandbox two: was never finished"}, 1},
		{"killed while attaching", func(t *testing.T, h *host, _ Sandbox, a Attachment) {
			a.Ready = false
			put(t, h.r.attachments, a.record(), a)
		}, []string{"attachment one/eth0: was never finished"}, 0},
		{"record of the sandbox lost", func(t *testing.T, h *host, s Sandbox, _ Attachment) {
			if err := os.WriteFile(filepath.Join(h.r.sandboxes.Dir, s.Name), []byte("torn"), 0o600); err != nil {
				t.Fatal(err)
			}
			h.do(func(ctx context.Context) error { _, err := h.r.Sandboxes(ctx); return err }) // sets it aside
		}, []string{"attachment one/eth0: its sandbox is gone"}, 0},
		{"record of the attachment lost", func(t *testing.T, h *host, _ Sandbox, a Attachment) {
			if err := h.r.attachments.Delete(t.Context(), a.record()); err != nil {
				t.Fatal(err)
			}
		}, []string{"cache " + "ID" + "/eth0: has no attachment"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.network("web", "br0", "10.9.0.0/24")
			s := h.sandbox("one")
			a := h.connect(ConnectSpec{Sandbox: "one", Network: "web"})
			tt.breakIt(t, h, s, a)
			for i := range tt.want {
				tt.want[i] = strings.Replace(tt.want[i], "ID", s.ID, 1)
			}
			before := h.records()
			if got := h.cleared(true); !slices.Equal(got, tt.want) {
				t.Errorf("dry run: got %q, want %q", got, tt.want)
			}
			if got := h.records(); !slices.Equal(got, before) {
				t.Errorf("the dry run changed records from %v to %v", before, got)
			}
			if got := h.cleared(false); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := h.leaseFiles("web"); len(got) != tt.left {
				t.Errorf("leases are %v, want %d", got, tt.left)
			}
			if got := h.cleared(false); len(got) != 0 {
				t.Errorf("the second time it cleared %q", got)
			}
		})
	}
}

func put(t *testing.T, s state.Store, name string, v any) {
	t.Helper()
	if err := s.Put(t.Context(), name, v); err != nil {
		t.Fatal(err)
	}
}

// What other engines attached through the same plugins must survive our GC.
func TestGCKeepsOthers(t *testing.T) {
	h := newHost(t)
	ns, err := netns.NewAt(filepath.Join(t.TempDir(), "pod"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	defer netns.Remove(ns.Path())
	id, err := ns.ID()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []state.Endpoint{
		{ID: "a", Container: "pod", IfName: "eth0", Sandbox: ns.Path(), NetnsIno: id.Ino, BootID: state.BootID()},
		{ID: "b", Container: "gone", IfName: "eth0", Sandbox: "/nowhere", NetnsIno: 1, BootID: state.BootID()},
		{ID: "c", Container: "old", IfName: "eth0", Sandbox: ns.Path(), NetnsIno: id.Ino, BootID: "earlier"},
	} {
		e.Driver, e.Face, e.Network = "bridge", "cni", "web"
		if err := h.r.endpoints.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	h.network("web", "br0", "10.9.0.0/24")
	h.sandbox("one")
	a := h.connect(ConnectSpec{Sandbox: "one", Network: "web"})
	valid, err := h.r.valid(t.Context(), "web")
	var got []string
	for _, v := range valid {
		got = append(got, v.ContainerID)
	}
	if want := []string{"pod", a.ContainerID}; err != nil || !slices.Equal(got, want) {
		t.Errorf("valid attachments are %v, %v; want %v", got, err, want)
	}
	err = h.try(func(ctx context.Context) error {
		return h.r.RemoveNetwork(ctx, "web", true)
	})
	if err == nil || !strings.Contains(err.Error(), "container pod of another engine") {
		t.Errorf("RemoveNetwork: got %v", err)
	}
}
