package bowline_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestJoinPorts(t *testing.T) {
	t.Parallel()
	tcp := func(host, port uint16) bowline.PortMapping {
		return bowline.PortMapping{HostPort: host, Port: port, Protocol: "tcp"}
	}
	at := func(ip string, m bowline.PortMapping) bowline.PortMapping {
		m.HostIP = netip.MustParseAddr(ip)
		return m
	}
	row := func(m bowline.PortMapping, count uint16) bowline.PortMapping {
		m.Count = count
		return m
	}
	udp := tcp(8001, 81)
	udp.Protocol = "udp"
	choice := tcp(8001, 81)
	choice.HostPortEnd = 8009
	tests := []struct {
		name string
		in   []bowline.PortMapping
		want string
	}{
		{"none", nil, "[]"},
		{"one", []bowline.PortMapping{tcp(8000, 80)}, "[8000->80/tcp]"},
		{"in any order", []bowline.PortMapping{tcp(8001, 81), tcp(8002, 82), tcp(8000, 80)}, "[8000-8002->80-82/tcp]"},
		{"rows", []bowline.PortMapping{row(tcp(8005, 85), 5), row(tcp(8000, 80), 5)}, "[8000-8009->80-89/tcp]"},
		{"twice", []bowline.PortMapping{tcp(8000, 80), tcp(8000, 80)}, "[8000->80/tcp]"},
		{"other offset", []bowline.PortMapping{tcp(8000, 80), tcp(8001, 82)}, "[8000->80/tcp 8001->82/tcp]"},
		{"other protocol", []bowline.PortMapping{tcp(8000, 80), udp}, "[8000->80/tcp 8001->81/udp]"},
		{"other address", []bowline.PortMapping{tcp(8000, 80), at("127.0.0.1", tcp(8001, 81))}, "[8000->80/tcp 127.0.0.1:8001->81/tcp]"},
		{"to be chosen", []bowline.PortMapping{tcp(0, 80), tcp(0, 81)}, "[0->80/tcp 0->81/tcp]"},
		{"to be chosen from a few", []bowline.PortMapping{tcp(8000, 80), choice}, "[8000->80/tcp 8001-8009->81/tcp]"},
		{"up to the last", []bowline.PortMapping{row(tcp(1, 1), 65534), tcp(65535, 65535)}, "[1-65535->1-65535/tcp]"},
	}
	for _, tt := range tests {
		in := slices.Clone(tt.in)
		if got := fmt.Sprint(bowline.JoinPorts(tt.in)); got != tt.want || !slices.Equal(in, tt.in) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
