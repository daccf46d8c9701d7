package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline"
)

// request puts what c asks for where the plugins of the list look for it: into
// capability arguments if they take them, else into CNI_ARGS.
func (a *Attachment) request(list *libcni.NetworkConfigList, c ConnectSpec) error {
	a.Capabilities = map[string]any{}
	if len(c.IPs) > 0 {
		switch {
		case capable(list, "ips"):
			var ips []string
			for _, ip := range c.IPs {
				ips = append(ips, ip.String())
			}
			a.Capabilities["ips"] = ips
		case len(c.IPs) == 1:
			a.Args = append(a.Args, [2]string{"IP", c.IPs[0].String()})
		default:
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
				`network %q: %d addresses requested: without "capabilities": {"ips": true} in its configuration want at most one`,
				c.Network, len(c.IPs)))
		}
	}
	if c.MAC != nil {
		if capable(list, "mac") {
			a.Capabilities["mac"] = c.MAC.String()
		} else {
			a.Args = append(a.Args, [2]string{"MAC", c.MAC.String()})
		}
	}
	if err := errors.Join(a.requestPolicy(c), a.requestPorts(list, c), a.requestRates(list, c)); err != nil {
		return err
	}
	if strings.HasPrefix(a.Plugin, ownPrefix) {
		// What engines call the container; our plugins give the same name the
		// same address again. Those of others might ask a Kubernetes for it.
		a.Args = append(a.Args, [2]string{"K8S_POD_NAME", a.Sandbox})
	}
	if len(a.Args) > 0 {
		// Else a plugin of the chain would stumble over what another takes.
		a.Args = append([][2]string{{"IgnoreUnknown", "1"}}, a.Args...)
	}
	return nil
}

// learn keeps what people ask for of a result.
func (a *Attachment) learn(result types.Result) error {
	if result == nil {
		return nil
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return err
	}
	a.Result = raw
	res, err := current.NewResultFromResult(result)
	if err != nil {
		return fmt.Errorf("result of the plugins: %w", err)
	}
	for _, i := range res.Interfaces {
		if i.Sandbox != "" && i.Name == a.IfName {
			a.MAC = i.Mac
		}
	}
	for _, ip := range res.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			ones, _ := ip.Address.Mask.Size()
			a.Addrs = append(a.Addrs, netip.PrefixFrom(addr.Unmap(), ones))
		}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			a.Gateways = append(a.Gateways, gw.Unmap())
		}
	}
	return nil
}

// satisfies returns an error unless a has what c asks for: many plugins ignore
// what they do not know.
func (a *Attachment) satisfies(c ConnectSpec) error {
	for _, ip := range c.IPs {
		found := false
		for _, p := range a.Addrs {
			found = found || p.Addr() == ip
		}
		if !found {
			return bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("%s ignored the requested address %s and gave %v", a.Plugin, ip, a.Addrs))
		}
	}
	if c.MAC == nil {
		return nil
	}
	if got, err := net.ParseMAC(a.MAC); err != nil || !bytes.Equal(got, c.MAC) {
		return bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("%s ignored the requested MAC %s and gave %q", a.Plugin, c.MAC, a.MAC))
	}
	return nil
}

// chooseIfName returns the name that the link is to have inside s.
func (r *Runtime) chooseIfName(ctx context.Context, s Sandbox, c ConnectSpec) (string, error) {
	if c.IfName != "" {
		if len(c.IfName) > 15 || strings.ContainsAny(c.IfName, "/: \t\n") || c.IfName == "." || c.IfName == ".." {
			return "", bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
				`ifname %q: want 1 to 15 characters without "/", ":" and space`, c.IfName))
		}
		return c.IfName, nil
	}
	attached, err := r.attachmentsOf(ctx, s.ID)
	if err != nil {
		return "", err
	}
	taken := map[string]bool{}
	for _, a := range attached {
		if a.Network == c.Network {
			return "", bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
				"sandbox %q is on network %q already, as %s; name another link with --ifname to attach it again",
				s.Name, c.Network, a.IfName))
		}
		taken[a.IfName] = true
	}
	for i := 0; ; i++ {
		if name := fmt.Sprintf("eth%d", i); !taken[name] {
			return name, nil
		}
	}
}
