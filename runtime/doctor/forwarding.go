package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// forwarding looks at the switches that let packets pass between links.
func (d *doctor) forwarding(ctx context.Context) {
	endpoints, err := d.rt.Endpoints(ctx)
	if err != nil {
		d.unsure(err)
		return
	}
	var v4, v6 bool // addresses in use
	for _, e := range endpoints {
		for _, a := range e.Addrs {
			v4, v6 = v4 || a.Addr().Is4(), v6 || a.Addr().Is6()
		}
	}
	d.forward("IPv4", "net.ipv4.ip_forward", v4)
	d.forward("IPv6", "net.ipv6.conf.all.forwarding", v6)
	for _, name := range d.advertised() {
		if d.sysctl("net.ipv6.conf."+name+".accept_ra") == "1" {
			d.say(Warn, name+" has its IPv6 default route from router advertisements, which the kernel drops once it forwards IPv6",
				"sysctl -w net.ipv6.conf."+name+".accept_ra=2")
		}
	}
	for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		if d.sysctl(key) == "1" {
			// For all bridges of the namespace: a bridge can ask for it, not be spared.
			d.say(Note, key+" is 1: frames between containers of one bridge pass iptables as well, which slows them", "sysctl -w "+key+"=0, unless Docker or Kubernetes runs here")
		}
	}
}

func (d *doctor) forward(family, key string, used bool) {
	switch on := d.sysctl(key); {
	case on == "1":
		d.say(OK, family+" is forwarded", "")
	case on == "":
		d.say(Note, family+": this kernel has none", "")
	case used:
		d.say(Fail, family+" is not forwarded, so containers reach nothing but their own network", "sysctl -w "+key+"=1")
	default:
		d.say(OK, family+" is not forwarded yet; the first container with a gateway turns it on", "")
	}
}

func (d *doctor) sysctl(key string) string {
	// Link names may hold dots, so these come from forwarding only by parts.
	if name, ok := strings.CutPrefix(key, "net.ipv6.conf."); ok {
		i := strings.LastIndexByte(name, '.')
		return d.host.read("/proc/sys/net/ipv6/conf/" + name[:i] + "/" + name[i+1:])
	}
	return d.host.read("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
}

// advertised returns the links whose IPv6 default route came from a router
// advertisement.
func (d *doctor) advertised() []string {
	const addrconf = 0x00040000 // RTF_ADDRCONF
	var names []string
	for line := range strings.Lines(d.host.read("/proc/net/ipv6_route")) {
		// destination, its length, source, its length, next hop, metric, references, use, flags, link
		f := strings.Fields(line)
		var flags uint32
		if len(f) != 10 || f[1] != "00" {
			continue
		}
		if _, err := fmt.Sscanf(f[8], "%x", &flags); err == nil && flags&addrconf != 0 && !slices.Contains(names, f[9]) {
			names = append(names, f[9])
		}
	}
	return names
}
