package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/nft"
)

func TestAccessThatCannotWork(t *testing.T) {
	t.Parallel()
	tests := []struct {
		options map[string]string
		want    string
	}{
		{map[string]string{"gatewayMode4": "isolated"}, `network "web": option gatewayMode4="isolated": want internal="true" with it, for the host is no gateway then`},
		{map[string]string{"gatewayMode6": "nat", "firewall": "none"}, `network "web": options firewall="none" and gatewayMode6="nat": want firewall="nft", for this takes rules`},
		{map[string]string{"ingressPolicy": "same-bridge", "firewall": "none"}, `network "web": options firewall="none" and ingressPolicy="same-bridge": want firewall="nft", for this takes rules`},
		{map[string]string{"ingressPolicy": "closed"}, `network "web": option ingressPolicy="closed": want WORD of the reference firewall plugin: open to our other networks, same-bridge, or isolated, which is icc=false too (default same-bridge)`},
		{map[string]string{"trustedInterfaces": "eth1,a/b"}, `network "web": option trustedInterfaces="eth1,a/b": want LIST of links such as eth1,wg0 from which published ports can be reached at the containers' own addresses`},
		{map[string]string{"iptablesAdminChainName": "MINE"}, `network "web": option iptablesAdminChainName="MINE": want NAME of the reference firewall plugin: leave it out; rules of yours hold in any chain of the forward hook`},
		{map[string]string{"firewalldZone": "--panic-on"}, `network "web": option firewalldZone="--panic-on": want NAME of firewalld's zone for the bridge, if firewalld runs (default trusted)`},
		{map[string]string{"ingressPolicy": "open", "gatewayMode4": "nat-unprotected", "firewall": "none"}, "<nil>"},
	}
	for _, tt := range tests {
		_, err := parseOptions(bowline.NetworkConfig{ID: "web", Options: tt.options})
		if fmt.Sprint(err) != tt.want {
			t.Errorf("%v:\n got %v\nwant %s", tt.options, err, tt.want)
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	tests := []struct {
		options map[string]string
		want    nft.Access // by IPv4
		icc     bool
	}{
		{nil, nft.AccessOpen, true},
		{map[string]string{"ipMasq": "true"}, nft.AccessPublished, true},
		{map[string]string{"gatewayMode4": "nat"}, nft.AccessNAT, true},
		{map[string]string{"gatewayMode4": "nat-unprotected", "ipMasq": "true"}, nft.AccessUnprotected, true},
		{map[string]string{"gatewayMode4": "routed"}, nft.AccessRouted, true},
		{map[string]string{"gatewayMode6": "routed"}, nft.AccessOpen, true},
		{map[string]string{"ingressPolicy": "isolated"}, nft.AccessOpen, false},
	}
	for _, tt := range tests {
		o, err := parseOptions(bowline.NetworkConfig{ID: "web", Options: tt.options})
		if err != nil {
			t.Fatal(err)
		}
		if got := o.access(false); got != tt.want || o.icc != tt.icc {
			t.Errorf("%v: access %d, icc %v; want %d, %v", tt.options, got, o.icc, tt.want, tt.icc)
		}
	}
	for in, want := range map[string][]string{"a,b": {"a", "b"}, "b:a:b": {"a", "b"}, `["a","b"]`: {"a", "b"}, "": nil} {
		if got, err := parseLinks(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("parseLinks(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestDirect(t *testing.T) {
	t.Parallel()
	prefixes := func(list ...string) (ps []netip.Prefix) {
		for _, s := range list {
			ps = append(ps, netip.MustParsePrefix(s))
		}
		return ps
	}
	ports := []bowline.PortMapping{
		{HostPort: 8080, Port: 80, Protocol: "tcp"},
		{HostPort: 8081, Port: 80, Protocol: "tcp"}, // the same once more
		{HostPort: 9000, Port: 85, Count: 6, Protocol: "tcp"},
		{HostPort: 9001, Port: 81, Count: 5, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, Port: 53, Protocol: "udp"},
	}
	e := bowline.EndpointSpec{ID: "a", Addrs: prefixes("10.1.0.2/24", "fd00:1::2/64"), Ports: ports}
	tests := []struct {
		options map[string]string
		closed  string
		open    string
	}{
		{nil, "[]", "[]"},
		{map[string]string{"ipMasq": "true"}, "[10.1.0.2 fd00:1::2]", "[]"},
		{map[string]string{"ipMasq": "true", "internal": "true"}, "[]", "[]"},
		{map[string]string{"gatewayMode4": "routed", "gatewayMode6": "nat"}, "[]", "[{10.1.0.2 6 80 90} {10.1.0.2 17 53 53}]"},
		{map[string]string{"gatewayMode6": "routed", "ipMasq": "true"}, "[10.1.0.2]", "[{fd00:1::2 6 80 90}]"},
		{map[string]string{"gatewayMode4": "nat", "gatewayMode6": "nat-unprotected", "trustedInterfaces": "eth1"}, "[]", "[{10.1.0.2 6 80 90} {10.1.0.2 17 53 53}]"},
	}
	for _, tt := range tests {
		o, err := parseOptions(bowline.NetworkConfig{ID: "web", Options: tt.options})
		if err != nil {
			t.Fatal(err)
		}
		closed, open := o.direct(e)
		if fmt.Sprint(closed) != tt.closed || fmt.Sprint(open) != tt.open {
			t.Errorf("%v:\n got closed %v, open %v\nwant closed %s, open %s", tt.options, closed, open, tt.closed, tt.open)
		}
	}
}
