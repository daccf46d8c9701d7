package cnm

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
)

// dockerKeys are the option keys of Docker's own drivers that mean the same as
// one of ours, so that a compose file needs only its driver changed.
func dockerKeys() map[string]string {
	return map[string]string{
		"com.docker.network.driver.mtu":                     "mtu",
		"macvlan_mode":                                      "mode",
		"com.docker.network.bridge.name":                    "bridge",
		"com.docker.network.bridge.enable_icc":              "icc",
		"com.docker.network.bridge.enable_ip_masquerade":    "ipMasq",
		"com.docker.network.bridge.host_binding_ipv4":       "publishAddress",
		"com.docker.network.bridge.gateway_mode_ipv4":       "gatewayMode4",
		"com.docker.network.bridge.gateway_mode_ipv6":       "gatewayMode6",
		"com.docker.network.bridge.trusted_host_interfaces": "trustedInterfaces",
	}
}

// GatewayDefaults returns what a Docker user expects of a network without
// asking: the host is its gateway, it reaches the world through the host's
// address, and the world reaches published ports only, unless it is internal. A
// network without pools gets nothing.
func GatewayDefaults(n bowline.NetworkConfig) map[string]string {
	if len(n.Pools) == 0 {
		return nil
	}
	way := "true"
	if yes, err := strconv.ParseBool(n.Options["internal"]); err == nil && yes {
		return map[string]string{"isGateway": way}
	}
	if yes, err := strconv.ParseBool(n.Options["isGateway"]); err == nil && !yes {
		way = "false"
	}
	defaults := map[string]string{"isGateway": way, "isDefaultGateway": way}
	if n.Options["firewall"] == "none" { // the rest takes rules
		return defaults
	}
	defaults["ipMasq"] = way
	if way == "true" {
		for _, p := range n.Pools {
			if p.Prefix.Addr().Is4() {
				defaults["gatewayMode4"] = "nat"
			} else {
				defaults["gatewayMode6"] = "nat"
			}
		}
	}
	return defaults
}

// networkOptions translates the options of a network into the driver's grammar.
// prefix is how the links are named inside, without their number.
func networkOptions(labels map[string]json.RawMessage) (options map[string]string, prefix string, err error) {
	options, prefix = map[string]string{}, "eth"
	generic := map[string]any{}
	if raw, ok := labels[labelGeneric]; ok {
		if err := json.Unmarshal(raw, &generic); err != nil {
			return nil, "", bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s=%s: want an object", labelGeneric, raw))
		}
	}
	ours := dockerKeys()
	from := map[string]string{} // key in the driver's grammar: key that the user wrote
	for _, key := range slices.Sorted(maps.Keys(generic)) {
		value, err := text(generic[key])
		if err != nil {
			return nil, "", bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("option %s=%v: want a string", key, generic[key]))
		}
		if key == labelIfPrefix {
			if prefix, err = checkPrefix(value); err != nil {
				return nil, "", err
			}
			continue
		}
		name := key
		if to, ok := ours[key]; ok {
			name = to
		}
		if other, twice := from[name]; twice && options[name] != value {
			return nil, "", bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("options %s=%q and %s=%q mean the same key: want one of them", other, options[name], key, value))
		}
		options[name], from[name] = value, key
	}
	if raw, ok := labels[labelInternal]; ok {
		var internal bool
		if err := json.Unmarshal(raw, &internal); err != nil {
			return nil, "", bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s=%s: want true or false", labelInternal, raw))
		}
		if internal {
			options["internal"] = "true"
		}
	}
	return options, prefix, refuseSysctls(options)
}

// text returns a value of Docker's options as the user wrote it: usually a
// string; compose files also bring numbers and booleans.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	}
	return "", fmt.Errorf("%T", v)
}

// checkPrefix refuses what the kernel would not take as the head of a link's
// name, with room for two digits.
func checkPrefix(p string) (string, error) {
	if p == "" || len(p) > 13 || strings.ContainsAny(p, "/: \t\n%") || p[0] == '.' {
		return "", bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("option %s=%q: want 1 to 13 letters or digits", labelIfPrefix, p))
	}
	return p, nil
}

// endpointOptions returns the options that the user gave for one endpoint
// (--driver-opt). What dockerd adds itself has its own prefix. keys are those that
// there are: "docker run --network" gives them in lower case.
func endpointOptions(labels map[string]json.RawMessage, keys []string) (map[string]string, error) {
	options := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if strings.HasPrefix(key, labelPrefix) {
			continue
		}
		name := key
		if i := slices.IndexFunc(keys, func(k string) bool { return strings.ToLower(k) == key }); i >= 0 {
			name = keys[i]
		}
		var v any
		err := json.Unmarshal(labels[key], &v)
		if err == nil {
			options[name], err = text(v)
		}
		if err != nil {
			return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("endpoint option %s=%s: want a string", key, labels[key]))
		}
	}
	return options, refuseSysctls(options)
}

// pools returns the pools of a network. The driver "null" of Docker's IPAM
// gives 0.0.0.0/0, which means none.
func pools(data ...ipamData) ([]bowline.Pool, error) {
	var ps []bowline.Pool
	for _, d := range data {
		prefix, err := netip.ParsePrefix(d.Pool)
		if err != nil {
			return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("pool %q: want an address and prefix length", d.Pool))
		}
		if prefix.Bits() == 0 {
			continue
		}
		p := bowline.Pool{Prefix: prefix.Masked()}
		if d.Gateway != "" {
			gw, err := netip.ParsePrefix(d.Gateway)
			if err != nil || !prefix.Contains(gw.Addr()) {
				return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("pool %s: gateway %q: want an address inside the pool", prefix, d.Gateway))
			}
			p.Gateway = gw.Addr()
		}
		ps = append(ps, p)
	}
	return ps, nil
}
