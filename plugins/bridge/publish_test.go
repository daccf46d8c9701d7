package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func TestPlanPorts(t *testing.T) {
	t.Parallel()
	const both, v4, v6 = "10.1.0.2/24 10.1.0.3/24 fd00:1::2/64", "10.1.0.2/24", "fd00:1::2/64"
	m := func(ip string, host, port uint16, more ...uint16) bowline.PortMapping {
		m := bowline.PortMapping{HostPort: host, Port: port, Protocol: "tcp"}
		if ip != "" {
			m.HostIP = netip.MustParseAddr(ip)
		}
		if len(more) > 0 {
			m.Count = more[0]
		}
		return m
	}
	tests := []struct {
		name          string
		options       map[string]string
		addrs         string
		ports         []bowline.PortMapping
		want, wantErr string
	}{
		{"both families, first addresses", nil, both, []bowline.PortMapping{m("", 8080, 80)}, "0.0.0.0 8080+1 10.1.0.2:80; :: 8080+1 [fd00:1::2]:80", ""},
		{"one family", nil, v6, []bowline.PortMapping{m("", 8080, 80)}, ":: 8080+1 [fd00:1::2]:80", ""},
		{"all of one family", nil, both, []bowline.PortMapping{m("0.0.0.0", 8080, 80)}, "0.0.0.0 8080+1 10.1.0.2:80", ""},
		{"one address", nil, both, []bowline.PortMapping{m("::1", 8080, 80)}, "::1 8080+1 [fd00:1::2]:80", ""},
		{"rows are joined", nil, v4, []bowline.PortMapping{m("", 8001, 81), m("", 8000, 80), m("", 8002, 82, 8)}, "0.0.0.0 8000+10 10.1.0.2:80", ""},
		{"publishAddress", map[string]string{"publishAddress": "127.0.0.1"}, both, []bowline.PortMapping{m("", 8080, 80)}, "127.0.0.1 8080+1 10.1.0.2:80", ""},
		{"publishAddress of both", map[string]string{"publishAddress": "127.0.0.1,::1"}, both, []bowline.PortMapping{m("", 8080, 80), m("192.0.2.1", 8080, 80)},
			"127.0.0.1 8080+1 10.1.0.2:80; ::1 8080+1 [fd00:1::2]:80; 192.0.2.1 8080+1 10.1.0.2:80", ""},
		{"routed", map[string]string{"gatewayMode4": "routed"}, both, []bowline.PortMapping{m("", 8080, 80)}, ":: 8080+1 [fd00:1::2]:80", ""},
		{"to be chosen", nil, v4, []bowline.PortMapping{m("", 0, 80), m("", 0, 80, 3)}, "0.0.0.0 0+1 10.1.0.2:80; 0.0.0.0 0+3 10.1.0.2:80", ""},
		{"no such family", nil, v4, []bowline.PortMapping{m("::1", 8080, 80)}, "", "[::1]:8080->80/tcp: ::1 leads to no address of the endpoint; want one of IPv6"},
		{"publishAddress of no such family", map[string]string{"publishAddress": "::1"}, v4, []bowline.PortMapping{m("", 8080, 80)}, "", "want one of IPv6"},
		{"overlap", nil, v4, []bowline.PortMapping{m("", 8000, 80, 10), m("127.0.0.1", 8005, 90)}, "", "want another one than"},
		{"internal", map[string]string{"internal": "true"}, v4, []bowline.PortMapping{m("", 8080, 80)}, "", "not internal"},
		{"no firewall", map[string]string{"firewall": "none"}, v4, []bowline.PortMapping{m("", 8080, 80)}, "", `firewall="nft"`},
	}
	for _, tt := range tests {
		n := bowline.NetworkConfig{ID: "web", Options: tt.options}
		o, err := parseOptions(n)
		if err != nil {
			t.Fatal(err)
		}
		e := bowline.EndpointSpec{ID: "a", Ports: tt.ports}
		for _, a := range strings.Fields(tt.addrs) {
			e.Addrs = append(e.Addrs, netip.MustParsePrefix(a))
		}
		leads, err := o.planPorts(n, e)
		var got []string
		for _, p := range taken(leads) {
			got = append(got, fmt.Sprintf("%s %d+%d %s", p.Host, p.First, p.Count, p.To))
		}
		if tt.wantErr == "" && (err != nil || strings.Join(got, "; ") != tt.want) || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
			t.Errorf("%s:\n got %q, %v\nwant %s, %s", tt.name, got, err, tt.want, tt.wantErr)
		}
	}
}

// TestForeignBridgeClosesLoopback: a bridge that stays lets nobody out of the
// host's loopback when the rules that guard it are gone.
func TestForeignBridgeClosesLoopback(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	netnstest.Command(t, ns, "ip", "link", "add", "br0", "type", "bridge")
	d, err := newDriver(ns)
	if err != nil {
		t.Fatal(err)
	}
	localnet := func() string {
		return strings.TrimSpace(netnstest.Command(t, ns, "sysctl", "-n", "net.ipv4.conf.br0.route_localnet"))
	}
	n := testNetwork("web")
	n.Options["bridge"] = "br0"
	e := bowline.EndpointSpec{
		ID: "c/eth0", IfName: "eth0", Sandbox: netnstest.New(t), Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")},
		Ports: []bowline.PortMapping{{HostPort: 80, Port: 80, Protocol: "tcp"}},
	}
	if err := d.CreateNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CreateEndpoint(t.Context(), n, e); err != nil || localnet() != "1" {
		t.Fatalf("CreateEndpoint: %v, route_localnet=%s", err, localnet())
	}
	if err := d.DeleteEndpoint(t.Context(), n, e); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteNetwork(t.Context(), n); err != nil || localnet() != "0" {
		t.Errorf("DeleteNetwork: %v, route_localnet=%s, want 0", err, localnet())
	}
}
