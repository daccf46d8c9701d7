package cni

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// prevResult returns the result that the configuration holds, nil if none.
func (o op) prevResult() (*types100.Result, error) {
	if len(o.PrevResult) == 0 || string(o.PrevResult) == "null" {
		return nil, nil
	}
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(o.PrevResult, &head); err != nil {
		return nil, &Error{Code: CodeDecode, Msg: "read prevResult: " + describe(err)}
	}
	if head.CNIVersion == "" {
		head.CNIVersion = o.CNIVersion
	}
	r, err := create.Create(head.CNIVersion, o.PrevResult)
	if err != nil {
		return nil, &Error{Code: CodeDecode, Msg: "read prevResult: " + err.Error()}
	}
	converted, err := types100.NewResultFromResult(r)
	if err != nil {
		return nil, &Error{Code: CodeDecode, Msg: "read prevResult: " + err.Error()}
	}
	return converted, nil
}

// result says what was made: the host's links, then the container's, and its
// addresses, routes and name servers.
func (o op) result(a bowline.Attachment, l lease) *types100.Result {
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, DNS: l.dns}
	if o.HasDNS {
		r.DNS = o.DNS
	}
	for _, h := range a.Host {
		i := &types100.Interface{Name: h.Name, Mtu: h.MTU}
		if h.MAC != nil {
			i.Mac = h.MAC.String()
		}
		r.Interfaces = append(r.Interfaces, i)
	}
	r.Interfaces = append(r.Interfaces, &types100.Interface{Name: a.Link, Mac: a.MAC.String(), Mtu: a.MTU, Sandbox: o.Netns})
	container := len(r.Interfaces) - 1
	for _, ip := range l.ips {
		c := &types100.IPConfig{Interface: &container, Address: ipNet(ip.addr)}
		if ip.gateway.IsValid() {
			c.Gateway = ip.gateway.AsSlice()
		}
		r.IPs = append(r.IPs, c)
	}
	for _, route := range l.routes {
		r.Routes = append(r.Routes, toRoute(route))
	}
	return r
}

func toRoute(r bowline.Route) *types.Route {
	t := &types.Route{Dst: ipNet(r.Dst), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope}
	if r.Via.IsValid() {
		t.GW = r.Via.AsSlice()
	}
	return t
}

func fromRoute(t *types.Route) (bowline.Route, bool) {
	a, ok := netip.AddrFromSlice(t.Dst.IP)
	if !ok {
		return bowline.Route{}, false
	}
	ones, _ := t.Dst.Mask.Size()
	r := bowline.Route{
		Dst: netip.PrefixFrom(a.Unmap(), ones), MTU: t.MTU, AdvMSS: t.AdvMSS, Priority: t.Priority, Table: t.Table, Scope: t.Scope,
	}
	if gw, ok := netip.AddrFromSlice(t.GW); ok {
		r.Via = gw.Unmap()
	}
	return r, true
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func printResult(w io.Writer, r *types100.Result, cniVersion string) error {
	v, err := r.GetAsVersion(cniVersion)
	if err != nil {
		return &Error{Code: CodeVersion, Msg: "convert the result to cniVersion " + cniVersion + ": " + err.Error()}
	}
	return v.PrintTo(w)
}

func logDamaged(d *state.DamagedError) {
	slog.Warn("a damaged record was set aside", "record", d.Path, "kept", d.Kept, "reason", d.Reason)
}
