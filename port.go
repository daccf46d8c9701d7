package bowline

import (
	"fmt"
	"net/netip"
)

// A PortMapping leads a port of the host, or a row of them, to an endpoint.
type PortMapping struct {
	// HostIP is the host's address that it is for; the zero Addr, 0.0.0.0 or ::
	// mean all, the zero Addr of both families.
	HostIP netip.Addr `json:"hostIP,omitzero"`
	// HostPort is the first port of the host. 0: the driver chooses, the same
	// for both families.
	HostPort uint16 `json:"hostPort"`
	// HostPortEnd, if not 0, lets the driver choose one of HostPort to
	// HostPortEnd. Count must be 1 then.
	HostPortEnd uint16 `json:"hostPortEnd,omitempty"`
	Port        uint16 `json:"port"`            // first port of the endpoint
	Count       uint16 `json:"count,omitempty"` // ports in a row, on both sides; 0 means 1
	Protocol    string `json:"protocol"`        // "tcp", "udp" or "sctp"
}

// Ports returns how many ports in a row m leads.
func (m PortMapping) Ports() int { return max(1, int(m.Count)) }

// String returns m as Docker writes it: 127.0.0.1:8000-8009->80-89/tcp.
func (m PortMapping) String() string {
	row := func(first uint16) string {
		if n := m.Ports(); n > 1 {
			return fmt.Sprintf("%d-%d", first, int(first)+n-1)
		}
		return fmt.Sprint(first)
	}
	host := row(m.HostPort)
	if m.HostPortEnd != 0 {
		host = fmt.Sprintf("%d-%d", m.HostPort, m.HostPortEnd)
	}
	if m.HostIP.Is6() {
		host = "[" + m.HostIP.String() + "]:" + host
	} else if m.HostIP.IsValid() {
		host = m.HostIP.String() + ":" + host
	}
	return host + "->" + row(m.Port) + "/" + m.Protocol
}

// Rates limit what an endpoint sends and receives. Zero is no limit.
type Rates struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`  // towards the endpoint, bit/s
	IngressBurst uint64 `json:"ingressBurst,omitempty"` // bits; 0: the driver chooses
	EgressRate   uint64 `json:"egressRate,omitempty"`   // from the endpoint, bit/s
	EgressBurst  uint64 `json:"egressBurst,omitempty"`  // bits; 0: the driver chooses
}

// A PolicyRule allows or denies what one endpoint sends or receives. The first
// rule that a connection meets decides; replies always pass.
type PolicyRule struct {
	Action    string         `json:"action"`             // "allow" or "deny"
	Direction string         `json:"direction"`          // "ingress" or "egress", seen from the endpoint
	Peers     []netip.Prefix `json:"peers,omitempty"`    // empty: anybody
	Network   string         `json:"network,omitempty"`  // instead of Peers: the endpoints of that network
	Protocol  string         `json:"protocol,omitempty"` // "tcp", "udp", "sctp" or "icmp"; empty: any
	Ports     []PortRange    `json:"ports,omitempty"`    // of the receiver; empty: any
}

// A PortRange is First to Last, both in it.
type PortRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}
