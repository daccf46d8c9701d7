package cni

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestApplyGateways(t *testing.T) {
	t.Parallel()
	v4, v6 := leaseIP{netip.MustParsePrefix("10.1.0.2/24"), netip.MustParseAddr("10.1.0.1")}, leaseIP{netip.MustParsePrefix("fd00:1::2/64"), netip.Addr{}}
	table, scope := 100, 253
	route := func(dst, via string) bowline.Route {
		r := bowline.Route{Dst: netip.MustParsePrefix(dst)}
		if via != "" {
			r.Via = netip.MustParseAddr(via)
		}
		return r
	}
	inTable, onLink := route("0.0.0.0/0", ""), route("10.9.0.0/16", "")
	inTable.Table, onLink.Scope = &table, &scope
	tests := []struct {
		name     string
		routes   []bowline.Route
		gateways []string
		want     []string
	}{
		{"none", nil, nil, nil},
		{"default route for each gateway", nil, []string{"10.1.0.1", "fd00:1::1"}, []string{"0.0.0.0/0 10.1.0.1", "::/0 fd00:1::1"}},
		{"not twice", []bowline.Route{route("0.0.0.0/0", "")}, []string{"10.1.0.1"}, []string{"0.0.0.0/0 10.1.0.1"}},
		{"one in another table does not count", []bowline.Route{inTable}, []string{"10.1.0.1"}, []string{"0.0.0.0/0 10.1.0.1", "0.0.0.0/0 10.1.0.1"}},
		{"routes take the gateway of their family", []bowline.Route{route("10.9.0.0/16", ""), route("10.8.0.0/16", "10.1.0.9"), onLink}, nil,
			[]string{"10.9.0.0/16 10.1.0.1", "10.8.0.0/16 10.1.0.9", "10.9.0.0/16 invalid IP"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := lease{ips: []leaseIP{v4, v6}, routes: append([]bowline.Route{}, tt.routes...)}
			var a bowline.Attachment
			for _, g := range tt.gateways {
				a.Gateways = append(a.Gateways, netip.MustParseAddr(g))
			}
			l.applyGateways(a)
			var got []string
			for _, r := range l.routes {
				got = append(got, fmt.Sprint(r.Dst, " ", r.Via))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("routes are %q, want %q", got, tt.want)
			}
			if len(tt.gateways) == 2 && l.ips[1].gateway != netip.MustParseAddr("fd00:1::1") {
				t.Errorf("gateway of an address without one is %v", l.ips[1].gateway)
			}
		})
	}
}
