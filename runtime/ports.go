package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/bowline-net/bowline"
)

// ParsePort reads a port to publish, as docker run -p takes it:
// [[ADDRESS:][HOSTPORT]:]PORT[/PROTOCOL], where both ports can be rows of the
// same length, such as 8000-8009:80-89. Without a port of the host one is chosen.
// The error wraps [bowline.ErrInvalid].
func ParsePort(s string) (bowline.PortMapping, error) {
	wrong := func(want string) (bowline.PortMapping, error) {
		return bowline.PortMapping{}, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("port %q: want %s", s, want))
	}
	const form = "[[ADDRESS:][HOSTPORT]:]PORT[/PROTOCOL], such as 8080:80, 127.0.0.1:8000-8009:80-89/udp or [::1]:8080:80"
	m := bowline.PortMapping{Protocol: "tcp"}
	rest, protocol, has := strings.Cut(s, "/")
	if has {
		m.Protocol = strings.ToLower(protocol)
	}
	if m.Protocol != "tcp" && m.Protocol != "udp" && m.Protocol != "sctp" {
		return wrong("protocol tcp, udp or sctp")
	}
	host, port := "", rest
	if i := strings.LastIndex(rest, ":"); i >= 0 {
		host, port = rest[:i], rest[i+1:]
	}
	if i := strings.LastIndex(host, ":"); i >= 0 {
		ip, err := netip.ParseAddr(strings.Trim(host[:i], "[]"))
		if err != nil || ip.Zone() != "" || ip.Is6() != strings.HasPrefix(host, "[") {
			return wrong(form)
		}
		m.HostIP, host = ip.Unmap(), host[i+1:]
	}
	first, count, err := parsePortRow(port)
	if err != nil {
		return wrong(form)
	}
	m.Port, m.Count = first, uint16(count)
	if host == "" {
		if count > 1 {
			return wrong("ports of the host for a row")
		}
		return m, nil
	}
	first, hostCount, err := parsePortRow(host)
	if err != nil {
		return wrong(form)
	}
	if hostCount != count {
		return wrong("as many ports of the host as of the container")
	}
	m.HostPort = first
	return m, nil
}

// parsePortRow reads FIRST or FIRST-LAST.
func parsePortRow(s string) (first uint16, count int, err error) {
	a, b, row := strings.Cut(s, "-")
	if !row {
		b = a
	}
	lo, err1 := strconv.ParseUint(a, 10, 16)
	hi, err2 := strconv.ParseUint(b, 10, 16)
	if err := errors.Join(err1, err2); err != nil || lo == 0 || hi < lo {
		return 0, 0, fmt.Errorf("no ports: %q", s)
	}
	return uint16(lo), int(hi-lo) + 1, nil
}

// requestPorts puts the ports that c asks for where plugins look for them.
func (a *Attachment) requestPorts(list *libcni.NetworkConfigList, c ConnectSpec) error {
	if len(c.Ports) == 0 {
		return nil
	}
	if !capable(list, "portMappings") {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			`network %q: ports requested: want "capabilities": {"portMappings": true} for a plugin of its configuration that publishes, such as bowline-bridge`, c.Network))
	}
	type mapping struct {
		HostPort      int    `json:"hostPort"`
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol"`
		HostIP        string `json:"hostIP,omitempty"`
		Count         int    `json:"count,omitempty"`
	}
	var all []mapping
	for _, m := range c.Ports {
		one := mapping{HostPort: int(m.HostPort), ContainerPort: int(m.Port), Protocol: m.Protocol}
		if m.HostIP.IsValid() {
			one.HostIP = m.HostIP.String()
		}
		if strings.HasPrefix(a.Plugin, ownPrefix) {
			one.Count = m.Ports()
			all = append(all, one)
			continue
		}
		for range m.Ports() { // others know no rows
			all = append(all, one)
			one.HostPort, one.ContainerPort = one.HostPort+1, one.ContainerPort+1
		}
	}
	a.Capabilities["portMappings"] = all
	return nil
}

// learnPorts keeps what was published: what our plugin's record says, where
// chosen ports are, or what was asked of another's.
func (r *Runtime) learnPorts(ctx context.Context, a *Attachment, c ConnectSpec) error {
	a.Ports = c.Ports
	driver, ours := strings.CutPrefix(a.Plugin, ownPrefix)
	if len(c.Ports) == 0 || !ours {
		return nil
	}
	e, err := r.endpoints.Get(ctx, driver, a.Network, a.ContainerID+"/"+a.IfName)
	if err != nil {
		return err
	}
	a.Ports = e.Ports
	return nil
}
