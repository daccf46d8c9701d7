package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func TestParseTrunk(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want []vlanRange
		ok   bool
	}{
		{"10,20-30", []vlanRange{{10, 10}, {20, 30}}, true},
		{`[{"id":10},{"minID":20,"maxID":30}]`, []vlanRange{{10, 10}, {20, 30}}, true},
		{"", nil, true},
		{"0", nil, false},
		{"4095", nil, false},
		{"30-20", nil, false},
		{"ten", nil, false},
		{`[{"minID":20}]`, nil, false},
		{`[{"id":10,"minID":20,"maxID":30}]`, []vlanRange{{10, 10}, {20, 30}}, true},
		{`[{"id":"ten"}]`, nil, false},
	}
	for _, tt := range tests {
		got, err := parseTrunk(tt.in)
		if (err == nil) != tt.ok || tt.ok && !slices.Equal(got, tt.want) {
			t.Errorf("parseTrunk(%q) = %v, %v; want %v, %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	t.Parallel()
	tests := []struct {
		options map[string]string
		want    string
	}{
		{map[string]string{"hairpinMode": "true", "promiscMode": "true"}, `network "web": options hairpinMode="true" and promiscMode="true": want one of them at most`},
		{map[string]string{"firewall": "none", "ipMasq": "true"}, `network "web": options firewall="none" and ipMasq="true": want firewall="nft", for masquerading takes a rule`},
		{map[string]string{"bridge": "br%d"}, `network "web": option bridge="br%d": want NAME of the bridge, made if there is none (default: one of the network's own)`},
		{map[string]string{"mtu": "67"}, `network "web": option mtu="67": want largest IP packet in bytes, 68 to 65535`},
		{map[string]string{"vlan": "10", "vlanTrunk": "5-15"}, `network "web": options vlan="10" and vlanTrunk 5-15: want a VLAN that the trunk does not have`},
		{map[string]string{"vlan": "4095"}, `network "web": option vlan="4095": want ID of the container's VLAN, 1 to 4094 (0: none)`},
	}
	for _, tt := range tests {
		_, err := parseOptions(bowline.NetworkConfig{ID: "web", Options: tt.options})
		if fmt.Sprint(err) != tt.want {
			t.Errorf("%v:\n got %v\nwant %s", tt.options, err, tt.want)
		}
	}
}

func TestForceAddress(t *testing.T) {
	t.Parallel()
	pool := func(s string) bowline.Pool { return bowline.Pool{Prefix: netip.MustParsePrefix(s)} }
	tests := []struct {
		name          string
		first, second bowline.Pool
		force         string
		want          []string // addresses of the bridge afterwards
		wantErr       string
	}{
		{"same again", pool("10.1.0.0/24"), pool("10.1.0.0/24"), "false", []string{"10.1.0.1/24"}, ""},
		{"another subnet beside it", pool("10.1.0.0/24"), pool("10.2.0.0/24"), "false", []string{"10.1.0.1/24", "10.2.0.1/24"}, ""},
		{"overlap", pool("10.1.0.0/24"), pool("10.1.0.0/16"), "false", []string{"10.1.0.1/24"},
			`network "b": gateway 10.1.0.1/16: bridge br0 has the address 10.1.0.1/24 already; want that one, or forceAddress="true"`},
		{"overlap, forced", pool("10.1.0.0/24"), pool("10.1.0.0/16"), "true", []string{"10.1.0.1/16"}, ""},
		{"IPv4 is replaced when forced, as by the reference", pool("10.1.0.0/24"), pool("10.2.0.0/24"), "true", []string{"10.2.0.1/24"}, ""},
		{"IPv6 beside it when forced", pool("fd00:1::/64"), pool("fd00:2::/64"), "true", []string{"fd00:1::1/64", "fd00:2::1/64"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			d, err := newDriver(ns)
			if err != nil {
				t.Fatal(err)
			}
			o := map[string]string{"bridge": "br0", "isGateway": "true"}
			if err := d.CreateNetwork(t.Context(), bowline.NetworkConfig{ID: "a", Pools: []bowline.Pool{tt.first}, Options: o}); err != nil {
				t.Fatal(err)
			}
			o["forceAddress"] = tt.force
			err = d.CreateNetwork(t.Context(), bowline.NetworkConfig{ID: "b", Pools: []bowline.Pool{tt.second}, Options: o})
			if got := fmt.Sprint(err); tt.wantErr == "" && err != nil || tt.wantErr != "" && got != tt.wantErr {
				t.Errorf("CreateNetwork:\n got %v\nwant %s", err, tt.wantErr)
			}
			if got := bridgeAddrs(t, d); !slices.Equal(got, tt.want) {
				t.Errorf("bridge has %v, want %v", got, tt.want)
			}
		})
	}
}

func bridgeAddrs(t *testing.T, d *driver) []string {
	t.Helper()
	br, err := d.host.Get(t.Context(), "br0")
	if err != nil {
		t.Fatal(err)
	}
	as, err := d.host.Addrs(t.Context(), br.Index)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range as {
		got = append(got, a.String())
	}
	slices.Sort(got)
	return got
}

func TestForeignBridgeIsGivenBack(t *testing.T) {
	t.Parallel()
	d, err := newDriver(netnstest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	br, _, err := d.host.EnsureBridge(t.Context(), link.Bridge{Name: "br0"})
	if err != nil {
		t.Fatal(err)
	}
	n := bowline.NetworkConfig{ID: "a", Pools: []bowline.Pool{{Prefix: netip.MustParsePrefix("10.1.0.0/24")}}, Options: map[string]string{"bridge": "br0", "isGateway": "true", "ipMasq": "true"}}
	if err := d.CreateNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if got := bridgeAddrs(t, d); !slices.Equal(got, []string{"10.1.0.1/24"}) {
		t.Errorf("bridge has %v", got)
	}
	if err := d.DeleteNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if after, err := d.host.Get(t.Context(), "br0"); err != nil || after.Index != br.Index || len(bridgeAddrs(t, d)) != 0 {
		t.Errorf("afterwards the bridge is %+v with %v, %v; want it as it was", after, bridgeAddrs(t, d), err)
	}
}
