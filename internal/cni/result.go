package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/jsontext"
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
		return nil, &Error{Code: CodeDecode, Msg: "read prevResult: " + describe("", err)}
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
	r.Interfaces = append(r.Interfaces, &types100.Interface{Name: first(a.Link, o.IfName), Mac: a.MAC.String(), Mtu: a.MTU, Sandbox: o.Netns})
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

// printResult prints r in the version of the spec that the caller speaks. The
// newest are written here, for the library's way goes through JSON three times.
func printResult(w io.Writer, r *types100.Result, cniVersion string) error {
	if cniVersion != "1.0.0" && cniVersion != "1.1.0" {
		v, err := r.GetAsVersion(cniVersion)
		if err != nil {
			return &Error{Code: CodeVersion, Msg: "convert the result to cniVersion " + cniVersion + ": " + err.Error()}
		}
		return v.PrintTo(w)
	}
	var j jsontext.Writer
	j.Object("", func() { appendResult(&j, r, cniVersion) })
	text, err := j.Bytes()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "    "); err != nil {
		return err
	}
	_, err = w.Write(out.Bytes())
	return err
}

func appendResult(j *jsontext.Writer, r *types100.Result, cniVersion string) {
	j.String("cniVersion", cniVersion)
	list(j, "interfaces", r.Interfaces, func(i *types100.Interface) {
		j.String("name", i.Name)
		j.OmitString("mac", i.Mac)
		j.OmitInt("mtu", int64(i.Mtu))
		j.OmitString("sandbox", i.Sandbox)
		j.OmitString("socketPath", i.SocketPath)
		j.OmitString("pciID", i.PciID)
	})
	list(j, "ips", r.IPs, func(c *types100.IPConfig) {
		if c.Interface != nil {
			j.Int("interface", int64(*c.Interface))
		}
		j.String("address", c.Address.String())
		if len(c.Gateway) > 0 {
			j.String("gateway", c.Gateway.String())
		}
	})
	list(j, "routes", r.Routes, func(t *types.Route) {
		j.String("dst", t.Dst.String())
		if len(t.GW) > 0 {
			j.String("gw", t.GW.String())
		}
		j.OmitInt("mtu", int64(t.MTU))
		j.OmitInt("advmss", int64(t.AdvMSS))
		j.OmitInt("priority", int64(t.Priority))
		if t.Table != nil {
			j.Int("table", int64(*t.Table))
		}
		if t.Scope != nil {
			j.Int("scope", int64(*t.Scope))
		}
	})
	if !r.DNS.IsEmpty() {
		j.Any("dns", r.DNS)
	}
}

// list writes a list of objects unless it is empty.
func list[T any](j *jsontext.Writer, key string, values []T, object func(T)) {
	if len(values) == 0 {
		return
	}
	j.List(key, func() {
		for _, v := range values {
			j.Object("", func() { object(v) })
		}
	})
}

func logDamaged(ctx context.Context, d *state.DamagedError) {
	slog.WarnContext(ctx, "a damaged record was set aside", "record", d.Path, "kept", d.Kept, "reason", d.Reason)
}
