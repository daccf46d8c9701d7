package cni

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/bowline-net/bowline"
)

// A portMapping is an entry of the portMappings capability (CNI conventions,
// "Dynamic Plugin specific Fields").
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
	Count         int    `json:"count"` // ours: so many ports in a row, on both sides; 0 means 1
}

// bandwidth is the bandwidth capability, and the keys of the reference
// bandwidth plugin: bit/s and bits.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// portMappings reads the capability. Ports in a row, which engines tell one by
// one, become one mapping.
func portMappings(runtime document) ([]bowline.PortMapping, error) {
	var in []portMapping
	runtime.into("portMappings", &in)
	var ms []bowline.PortMapping
	for i, p := range in {
		wrong := func(key string, value any, want string) error {
			return invalid("runtimeConfig: portMappings[%d]: %s=%q: want %s", i, key, fmt.Sprint(value), want)
		}
		m := bowline.PortMapping{Protocol: strings.ToLower(p.Protocol)}
		switch m.Protocol {
		case "tcp", "udp", "sctp":
		case "":
			m.Protocol = "tcp"
		default:
			return nil, wrong("protocol", p.Protocol, "tcp, udp or sctp")
		}
		if p.HostPort < 0 || p.HostPort > 65535 {
			return nil, wrong("hostPort", p.HostPort, "0 to 65535")
		}
		if p.ContainerPort < 1 || p.ContainerPort > 65535 {
			return nil, wrong("containerPort", p.ContainerPort, "1 to 65535")
		}
		if p.Count < 0 || p.Count > 65536-max(p.HostPort, p.ContainerPort) {
			return nil, wrong("count", p.Count, "1 to as many ports as there are")
		}
		m.HostPort, m.Port, m.Count = uint16(p.HostPort), uint16(p.ContainerPort), uint16(p.Count)
		if p.HostIP != "" {
			ip, err := netip.ParseAddr(p.HostIP)
			if err != nil || ip.Zone() != "" {
				return nil, wrong("hostIP", p.HostIP, "an address such as 127.0.0.1 or ::1")
			}
			m.HostIP = ip.Unmap()
		}
		ms = append(ms, m)
	}
	return bowline.JoinPorts(ms), nil
}

// rates reads the limits: what the configuration says wins over what the
// engine asks for, as the reference plugin has it.
func rates(d document) (bowline.Rates, error) {
	var b bandwidth
	place := "configuration"
	d.into("ingressRate", &b.IngressRate)
	d.into("ingressBurst", &b.IngressBurst)
	d.into("egressRate", &b.EgressRate)
	d.into("egressBurst", &b.EgressBurst)
	if b == (bandwidth{}) {
		place = "runtimeConfig: bandwidth"
		d.in("runtimeConfig").into("bandwidth", &b)
		b.IngressBurst, b.EgressBurst = burst(b.IngressBurst), burst(b.EgressBurst)
	}
	r := bowline.Rates(b)
	if err := r.Validate(); err != nil {
		return bowline.Rates{}, fmt.Errorf("%s: %w", place, err)
	}
	return r, nil
}

// burst returns 0, which leaves the choice to the driver, for what engines send
// where nobody asked for a burst: 2³¹-1 bits (dockershim), 2³²-1 (containerd) or
// eight times that (CRI-O). Taken at its word it would let a container send half
// a gigabyte before the limit is felt.
func burst(bits uint64) uint64 {
	if bits >= math.MaxInt32 {
		return 0
	}
	return bits
}
