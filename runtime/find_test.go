package runtime

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

func TestFind(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	r := New(t.Output())
	for _, e := range []state.Endpoint{
		{Network: "web", ID: "aaaa1111/eth0", Container: "aaaa1111", Name: "shop/front", IfName: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}},
		{Network: "db", ID: "aaaa1111/eth1", Container: "aaaa1111", Name: "shop/front", IfName: "eth1"},
		{Network: "web", ID: "aaaa2222/eth0", Container: "aaaa2222", IfName: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("fd00::2/64")}},
		{Network: "dock", ID: "beef0000", Sandbox: "/run/ns/1", Face: "cnm"},
		{Network: "dock2", ID: "beef1111", Sandbox: "/run/ns/1", Face: "cnm"},
	} {
		e.Driver, e.Ready = "bridge", true
		if err := state.OpenEndpoints().Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	unfinished := state.Endpoint{Driver: "bridge", Network: "web", ID: "cccc3333/eth0", Container: "cccc3333"}
	if err := state.OpenEndpoints().Put(t.Context(), unfinished); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		wanted  Wanted
		want    string // IDs
		wantErr string
	}{
		{Wanted{Container: "aaaa1111"}, "aaaa1111/eth0 aaaa1111/eth1", ""},
		{Wanted{Container: "shop/front", Network: "db"}, "aaaa1111/eth1", ""},
		{Wanted{Container: "aaaa1111", IfName: "eth0"}, "aaaa1111/eth0", ""},
		{Wanted{Container: "aaaa2"}, "aaaa2222/eth0", ""},
		{Wanted{Container: "aaaa1"}, "aaaa1111/eth0 aaaa1111/eth1", ""},
		{Wanted{Container: "10.1.0.2"}, "aaaa1111/eth0", ""},
		{Wanted{Container: "fd00:0::2"}, "aaaa2222/eth0", ""},
		{Wanted{Container: "beef"}, "beef0000 beef1111", ""}, // of one sandbox
		{Wanted{Container: "/run/ns/1"}, "beef0000 beef1111", ""},
		{Wanted{Container: "beef0000"}, "beef0000", ""},
		{Wanted{Container: "aaaa"}, "", "aaaa may mean aaaa"},
		{Wanted{Container: "aaa"}, "", "aaa is not attached: want a container that bowline ls shows"},
		{Wanted{Container: "cccc3333"}, "", "cccc3333 is not attached"},
		{Wanted{Container: "aaaa2222", Network: "db", IfName: "eth0"}, "", "aaaa2222 is not attached to db as eth0"},
		{Wanted{}, "", " is not attached"},
	}
	for _, tt := range tests {
		found, err := r.find(t.Context(), tt.wanted)
		ids := map[string]bool{}
		for _, e := range found {
			ids[e.ID] = true
		}
		for _, id := range strings.Fields(tt.want) {
			if !ids[id] {
				t.Errorf("find(%+v) lacks %s", tt.wanted, id)
			}
		}
		if len(ids) != len(strings.Fields(tt.want)) {
			t.Errorf("find(%+v) = %v, want %s", tt.wanted, ids, tt.want)
		}
		switch {
		case tt.wantErr == "" && err != nil, tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
			t.Errorf("find(%+v): %v, want %q", tt.wanted, err, tt.wantErr)
		case err != nil && !errors.Is(err, bowline.ErrUnknown) && !errors.Is(err, bowline.ErrConflict):
			t.Errorf("find(%+v): %v wraps no cause", tt.wanted, err)
		}
	}
}
