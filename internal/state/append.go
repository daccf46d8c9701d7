package state

import (
	"maps"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/jsontext"
)

// AppendJSON implements [jsontext.Appender]: this record is written twice per
// attachment. It must say what the tags of Endpoint say; a test compares.
func (r Endpoint) AppendJSON(w *jsontext.Writer) {
	w.String("driver", r.Driver)
	w.String("face", r.Face)
	w.String("network", r.Network)
	w.String("id", r.ID)
	w.String("container", r.Container)
	w.OmitString("name", r.Name)
	w.OmitString("ifname", r.IfName)
	w.OmitString("sandbox", r.Sandbox)
	w.OmitUint("netnsIno", r.NetnsIno)
	w.String("bootID", r.BootID)
	w.OmitString("link", r.Link)
	w.OmitString("mac", r.MAC)
	if len(r.Addrs) > 0 {
		w.List("addrs", func() {
			for _, a := range r.Addrs {
				w.Prefix("", a)
			}
		})
	}
	if len(r.Pools) > 0 {
		w.List("pools", func() {
			for _, p := range r.Pools {
				w.Object("", func() {
					w.Prefix("Prefix", p.Prefix)
					w.Addr("Gateway", p.Gateway)
				})
			}
		})
	}
	if len(r.Routes) > 0 {
		w.List("routes", func() {
			for _, route := range r.Routes {
				w.Object("", func() { appendRoute(w, route) })
			}
		})
	}
	if len(r.Ports) > 0 {
		w.List("ports", func() {
			for _, p := range r.Ports {
				w.Object("", func() { appendPort(w, p) })
			}
		})
	}
	if r.Rates != (bowline.Rates{}) {
		w.Object("rates", func() { appendRates(w, r.Rates) })
	}
	if len(r.Policy) > 0 {
		w.Any("policy", r.Policy)
	}
	if len(r.Sysctls) > 0 {
		w.Any("sysctls", r.Sysctls)
	}
	appendMap(w, "options", r.Options)
	appendMap(w, "endpointOptions", r.EndpointOptions)
	w.OmitString("ipam", r.IPAM)
	w.Time("created", r.Created)
}

func appendRoute(w *jsontext.Writer, r bowline.Route) {
	w.Prefix("dst", r.Dst)
	if r.Via.IsValid() {
		w.Addr("via", r.Via)
	}
	w.OmitInt("mtu", int64(r.MTU))
	w.OmitInt("advmss", int64(r.AdvMSS))
	w.OmitInt("priority", int64(r.Priority))
	if r.Table != nil {
		w.Int("table", int64(*r.Table))
	}
	if r.Scope != nil {
		w.Int("scope", int64(*r.Scope))
	}
}

func appendPort(w *jsontext.Writer, p bowline.PortMapping) {
	if p.HostIP.IsValid() {
		w.Addr("hostIP", p.HostIP)
	}
	w.Int("hostPort", int64(p.HostPort))
	w.OmitInt("hostPortEnd", int64(p.HostPortEnd))
	w.Int("port", int64(p.Port))
	w.OmitInt("count", int64(p.Count))
	w.String("protocol", p.Protocol)
}

func appendRates(w *jsontext.Writer, r bowline.Rates) {
	w.OmitUint("ingressRate", r.IngressRate)
	w.OmitUint("ingressBurst", r.IngressBurst)
	w.OmitUint("egressRate", r.EgressRate)
	w.OmitUint("egressBurst", r.EgressBurst)
}

func appendMap(w *jsontext.Writer, key string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	w.Object(key, func() {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			w.String(k, m[k])
		}
	})
}
