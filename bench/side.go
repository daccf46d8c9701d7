package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A side is one of those that are compared.
type side struct {
	name    string // as in the tables
	short   string
	bin     string // directory of its plugins
	ours    bool
	backend string   // of the reference's ipMasq
	path    []string // directories before the others in PATH
}

// environ returns what its plugins get besides the CNI variables.
func (s side) environ(dir string) []string {
	path := strings.Join(append(s.path, os.Getenv("PATH"), "/usr/sbin", "/sbin"), ":")
	return []string{"PATH=" + path, "BOWLINE_RUN_DIR=" + dir + "/run", "BOWLINE_LIB_DIR=" + dir + "/lib", "BOWLINE_PLUGIN_DIR=" + dir + "/plugins"}
}

func ourSide(o options) side {
	return side{name: "bowline", short: "ours", bin: o.ours, ours: true}
}

// rivals returns the reference in each way that it can masquerade here. The
// legacy variant has a PATH in which iptables is iptables-legacy.
func rivals(o options) ([]side, error) {
	var all []side
	for _, variant := range []string{"legacy", "nft"} {
		dir := filepath.Join(o.dir, "iptables-"+variant)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		found := true
		for _, tool := range []string{"iptables", "ip6tables"} {
			for _, suffix := range []string{"", "-save", "-restore"} {
				real, err := exec.LookPath(tool + "-" + variant + suffix)
				if err != nil {
					found = false
					break
				}
				os.Remove(filepath.Join(dir, tool+suffix))
				if err := os.Symlink(real, filepath.Join(dir, tool+suffix)); err != nil {
					return nil, err
				}
			}
		}
		if found {
			all = append(all, side{name: "reference, iptables-" + variant, short: variant, bin: o.reference, backend: "iptables", path: []string{dir}})
		}
	}
	return append(all, side{name: "reference, nftables", short: "nftables", bin: o.reference, backend: "nftables"}), nil
}

// A network is what containers are attached to.
type network struct {
	name   string
	subnet string
	masq   bool
	apart  bool // from other networks: ours always is, the reference by its firewall plugin
	port   bool // each container has one published
	full   bool // masq, port, firewall and limits: what five plugins of the reference do
	lan    bool // macvlan on the host's uplink, not a bridge
	acd    bool // ours asks the LAN for each address first, which the reference does not
	host   bool // ours gives the host access, which the reference cannot
	loop   bool // the loopback alone
}

func (n network) String() string {
	if n.loop {
		return "loopback"
	}
	text := "bridge + ipam"
	if n.lan {
		text = "macvlan + ipam"
	}
	if n.host {
		text += " + host access"
	}
	if n.acd {
		text += " + the LAN asked for the address"
	}
	if n.full {
		return "full: " + text + " + ipMasq + port + firewall + bandwidth"
	}
	if n.masq {
		text += " + ipMasq"
	}
	if n.apart {
		text += " + isolation"
	}
	if n.port {
		text += " + 1 port"
	}
	return text
}

// chain is the network's configuration for the plugins of h's side, in order.
func (n network) chain(h *host) []map[string]any {
	ipam := map[string]any{"type": "host-local", "dataDir": h.dir + "/cni", "ranges": [][]map[string]any{{{"subnet": n.subnet}}}}
	if n.loop {
		return []map[string]any{{"cniVersion": "1.0.0", "name": n.name, "type": "loopback"}}
	}
	if n.lan {
		c := map[string]any{"cniVersion": "1.0.0", "name": n.name, "type": "macvlan", "master": "up0", "mode": "bridge", "ipam": ipam}
		if h.side.ours {
			c["type"], ipam["type"], c["acd"], c["host-access"] = "bowline-macvlan", "bowline-ipam", n.acd, n.host
			delete(ipam, "dataDir")
		}
		return []map[string]any{c}
	}
	c := map[string]any{"cniVersion": "1.0.0", "name": n.name, "type": "bridge", "bridge": "br-" + n.name,
		"isGateway": true, "isDefaultGateway": true, "ipMasq": n.masq, "ipam": ipam}
	if n.masq && h.side.backend != "" {
		c["ipMasqBackend"] = h.side.backend
	}
	if h.side.ours {
		c["type"], ipam["type"] = "bowline-bridge", "bowline-ipam"
		delete(ipam, "dataDir")
		return []map[string]any{c}
	}
	chain := []map[string]any{c}
	more := func(kind string, keys map[string]any) {
		keys["cniVersion"], keys["name"], keys["type"] = "1.0.0", n.name, kind
		chain = append(chain, keys)
	}
	if n.port {
		more("portmap", map[string]any{"backend": h.side.backend})
	}
	if n.apart {
		more("firewall", map[string]any{"backend": "iptables", "ingressPolicy": "same-bridge"})
	}
	if n.full {
		more("firewall", map[string]any{"backend": "iptables"})
		more("bandwidth", map[string]any{})
	}
	return chain
}

// chainFor is the chain with what the runtime adds for one container.
func (n network) chainFor(h *host, a *attachment) []map[string]any {
	chain := n.chain(h)
	asks := map[string]any{}
	if n.port {
		asks["portMappings"] = []map[string]any{{"hostPort": a.port, "containerPort": 80, "protocol": "tcp"}}
	}
	if n.full {
		asks["bandwidth"] = map[string]any{"ingressRate": 1e9, "ingressBurst": 8e6, "egressRate": 1e9, "egressBurst": 8e6}
	}
	if len(asks) > 0 {
		for _, c := range chain {
			c["runtimeConfig"] = asks
		}
	}
	return chain
}
