package cni

import (
	"fmt"
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
}

// bandwidth is the bandwidth capability, and the keys of the reference
// bandwidth plugin: bit/s and bits.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// portMappings reads the capability.
func portMappings(in []portMapping) ([]bowline.PortMapping, error) {
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
		m.HostPort, m.Port = uint16(p.HostPort), uint16(p.ContainerPort)
		if p.HostIP != "" {
			ip, err := netip.ParseAddr(p.HostIP)
			if err != nil || ip.Zone() != "" {
				return nil, wrong("hostIP", p.HostIP, "an address such as 127.0.0.1 or ::1")
			}
			m.HostIP = ip.Unmap()
		}
		ms = append(ms, m)
	}
	return ms, nil
}

// rates reads the limits: what the configuration says wins over what the
// engine asks for, as the reference plugin has it.
func rates(static bandwidth, dynamic *bandwidth) (bowline.Rates, error) {
	b, place := static, "configuration"
	if b == (bandwidth{}) && dynamic != nil {
		b, place = *dynamic, "runtimeConfig: bandwidth"
	}
	if b.IngressBurst > 0 && b.IngressRate == 0 {
		return bowline.Rates{}, invalid("%s: ingressBurst=%d: want an ingressRate with it", place, b.IngressBurst)
	}
	if b.EgressBurst > 0 && b.EgressRate == 0 {
		return bowline.Rates{}, invalid("%s: egressBurst=%d: want an egressRate with it", place, b.EgressBurst)
	}
	return bowline.Rates(b), nil
}
