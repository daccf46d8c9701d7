package runtime

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/bowline-net/bowline"
)

// A NetworkSpec is what somebody wants a network to be. Either Conf is set, or
// the rest describes a network of one of Bowline's own plugins.
type NetworkSpec struct {
	Name     string
	Conf     []byte            // a CNI configuration or configuration list of any plugin
	Driver   string            // the plugin is bowline-Driver; default "bridge"
	Subnets  []netip.Prefix    // a pool each; default: a free one
	IPv6     bool              // add a free IPv6 pool if Subnets has none
	Gateways []netip.Addr      // each in one of Subnets; default: the plugin chooses
	Internal bool              // no way out
	NoICC    bool              // containers do not reach each other
	MTU      int               // bytes; 0: the plugin chooses
	IPAM     string            // plugin that gives addresses; "": bowline-ipam, "none": nobody
	Options  map[string]string // further keys of the plugin
}

const (
	macvlan = "macvlan" // a driver whose containers are on the LAN of the host
	hostNIC = "host"    // a driver that gives a container a NIC of the host, which is on a LAN
	noIPAM  = "none"
)

// onLAN reports whether the network's addresses are those of a LAN, which the host
// may have as well.
func (s NetworkSpec) onLAN() bool { return s.Driver == macvlan || s.Driver == hostNIC }

// ownAddresses reports whether the network's addresses are chosen here.
func (s NetworkSpec) ownAddresses() bool { return s.IPAM == "" || s.IPAM == ownPrefix+"ipam" }

// ownPrefix starts the names of our own plugins.
const ownPrefix = "bowline-"

// ipRange is one pool as the configuration of an IPAM plugin has it.
type ipRange struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway *netip.Addr  `json:"gateway,omitempty"`
}

// confList returns the CNI configuration list of a network described by flags.
// s.Subnets are final.
func confList(s NetworkSpec) ([]byte, error) {
	plugin := map[string]any{"type": ownPrefix + s.Driver, "capabilities": capabilities(s.Driver)}
	switch s.Driver {
	case macvlan:
		plugin["isDefaultGateway"] = !s.Internal
		if s.NoICC {
			plugin["mode"] = "private"
		}
	case hostNIC:
		plugin["isDefaultGateway"] = !s.Internal
	default:
		plugin["isGateway"], plugin["isDefaultGateway"], plugin["ipMasq"] = true, !s.Internal, !s.Internal
		if s.NoICC {
			plugin["icc"] = false
		}
	}
	if s.Internal {
		plugin["internal"] = true
	}
	if s.MTU != 0 {
		plugin["mtu"] = s.MTU
	}
	for k, v := range s.Options {
		plugin[k] = jsonValue(v)
	}
	switch s.IPAM {
	case "", ownPrefix + "ipam":
		ipam, err := ipamConf(s)
		if err != nil {
			return nil, err
		}
		plugin["ipam"] = ipam
	case noIPAM:
	default:
		plugin["ipam"] = map[string]any{"type": s.IPAM}
	}
	return json.Marshal(map[string]any{
		"cniVersion": "1.1.0", "name": s.Name, "plugins": []any{plugin},
	})
}

// capabilities are the arguments that the driver takes.
func capabilities(driver string) map[string]bool {
	all := map[string]bool{"ips": true, "mac": true}
	switch driver {
	case "bridge":
		all["portMappings"], all["bandwidth"] = true, true
	case macvlan, hostNIC:
		all["bandwidth"] = true
	}
	return all
}

// ipamConf returns one set of ranges for each subnet: an address of each is
// wanted.
func ipamConf(s NetworkSpec) (map[string]any, error) {
	var ranges [][]ipRange
	used := 0
	for _, subnet := range s.Subnets {
		r := ipRange{Subnet: subnet}
		for _, g := range s.Gateways {
			if subnet.Contains(g) {
				r.Gateway, used = &g, used+1
			}
		}
		ranges = append(ranges, []ipRange{r})
	}
	if used < len(s.Gateways) {
		return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			"network %q: gateway %v: want addresses inside the subnets %v, one each", s.Name, s.Gateways, s.Subnets))
	}
	return map[string]any{"type": "bowline-ipam", "ranges": ranges}, nil
}

// jsonValue returns v as JSON if it reads as a boolean, number, list or object,
// else as a string: plugins of others want their types right.
func jsonValue(v string) any {
	var parsed any
	if strings.HasPrefix(v, `"`) || json.Unmarshal([]byte(v), &parsed) != nil || parsed == nil {
		return v
	}
	return json.RawMessage(v)
}

// parseConf returns the configuration list in conf, which may hold a single
// plugin's configuration as well, under the name given, or its own if that is empty.
func parseConf(conf []byte, name string) (*libcni.NetworkConfigList, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(conf, &raw); err != nil {
		return nil, bowline.Wrong(bowline.ErrInvalid, "network configuration: "+err.Error())
	}
	if _, list := raw["plugins"]; !list {
		single, err := json.Marshal(raw)
		if err != nil {
			return nil, err
		}
		raw = map[string]json.RawMessage{
			"name": raw["name"], "cniVersion": raw["cniVersion"],
			"plugins": json.RawMessage("[" + string(single) + "]"),
		}
		for k, v := range raw {
			if v == nil {
				delete(raw, k)
			}
		}
	}
	if name != "" {
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		raw["name"] = quoted
	}
	whole, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	list, err := libcni.NetworkConfFromBytes(whole)
	if err != nil {
		return nil, bowline.Wrong(bowline.ErrInvalid, "network configuration: "+err.Error())
	}
	return list, checkName("network", list.Name)
}

// capable returns whether a plugin of the list takes the capability argument.
func capable(list *libcni.NetworkConfigList, capability string) bool {
	for _, p := range list.Plugins {
		if p.Network.Capabilities[capability] {
			return true
		}
	}
	return false
}

// pools returns the subnets that the list's own text names, wherever host-local
// and bowline-ipam look for them.
func pools(list *libcni.NetworkConfigList) []netip.Prefix {
	var found []netip.Prefix
	for _, p := range list.Plugins {
		var conf struct {
			IPAM struct {
				Subnet string
				Ranges [][]struct{ Subnet string }
			}
		}
		if json.Unmarshal(p.Bytes, &conf) != nil {
			continue // a plugin whose ipam is of another shape
		}
		texts := []string{conf.IPAM.Subnet}
		for _, set := range conf.IPAM.Ranges {
			for _, r := range set {
				texts = append(texts, r.Subnet)
			}
		}
		for _, text := range texts {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				found = append(found, prefix.Masked())
			}
		}
	}
	return found
}

// driverOf returns the type of the list's first plugin.
func driverOf(list *libcni.NetworkConfigList) string {
	if len(list.Plugins) == 0 {
		return ""
	}
	return list.Plugins[0].Network.Type
}
