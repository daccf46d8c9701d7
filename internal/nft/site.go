package nft

import (
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A site is where policies decide: at the endpoints' ports of bridges, or in a
// sandbox at its links. Plans, maps and memories are the same; the table differs,
// the hooks, and in which direction a link is met.
type site struct {
	table  *nftables.Table
	inside bool // in a sandbox
}

func atBridges() site { return site{table: bridgeTable()} }

func inSandbox() site { return site{netdevTable(), true} }

// netdevTable holds what is hooked to single links.
func netdevTable() *nftables.Table {
	return &nftables.Table{Name: Table, Family: nftables.TableFamilyNetdev}
}

// site is where the handle's policies decide.
func (h *Handle) site() site {
	if h.sandbox {
		return inSandbox()
	}
	return atBridges()
}

// link loads the name of the endpoint's link. What the endpoint sends comes in
// by its port of the bridge, and goes out by its link in the sandbox.
func (t site) link(direction string) expr.Any {
	if (direction == egress) == t.inside {
		return ifname(expr.MetaKeyOIFNAME, reg0)
	}
	return ifname(expr.MetaKeyIIFNAME, reg0)
}

// linkKey is what the nft command calls what link loads.
func (t site) linkKey(direction string) string {
	if (direction == egress) == t.inside {
		return "oifname"
	}
	return "iifname"
}

// hooks returns the chains by which all packets of a link come: of one link in
// a sandbox, of all ports of bridges.
func (t site) hooks(link string) []chain {
	from := []rule{{"iifname vmap @policy-from", []expr.Any{t.link(egress), vmapOf("policy-from")}}}
	to := []rule{{t.linkKey(ingress) + " vmap @policy-to", []expr.Any{t.link(ingress), vmapOf("policy-to")}}}
	yes := nftables.ChainPolicyAccept
	hook := func(name string, hook *nftables.ChainHook, priority nftables.ChainPriority, device string, rules []rule) chain {
		return chain{&nftables.Chain{Name: name, Table: t.table, Type: nftables.ChainTypeFilter, Policy: &yes, Hooknum: hook, Priority: &priority, Device: device}, rules}
	}
	if t.inside {
		return []chain{
			hook(egress+"-"+link, nftables.ChainHookRef(netdevEgress), 0, link, outgoing()),
			hook(ingress+"-"+link, nftables.ChainHookRef(unix.NF_NETDEV_INGRESS), 0, link, to),
		}
	}
	return []chain{
		hook("policy-egress", nftables.ChainHookPrerouting, -290, "", from),
		hook("policy-ingress", nftables.ChainHookPostrouting, 290, "", to),
	}
}

// ownHooks are those of hooks that an endpoint does not share.
func (t site) ownHooks(e Endpoint) []chain {
	if !t.inside || len(e.Policy) == 0 {
		return nil
	}
	return t.hooks(e.Port)
}

// isHook reports whether a chain by that name is one of the hooks of a link.
func (t site) isHook(name string) bool {
	return t.inside && (strings.HasPrefix(name, egress+"-") || strings.HasPrefix(name, ingress+"-"))
}

// netdevEgress is NF_NETDEV_EGRESS, of Linux 5.16.
const netdevEgress = 1

// Where a packet enters a bridge the kernel has read what is in the frame. What a
// sandbox sends has the protocol that the sender says, and a packet socket of the
// container's, which takes CAP_NET_RAW, may say what it likes, or add a VLAN tag
// that the receiver ignores. So on its way out of a sandbox a frame is taken for
// IP or ARP only if the frame itself says so too. What else leaves, or cannot be
// read because it is sent past the queues, meets the first rule that would keep
// anything from leaving.

// outgoing returns the rules of the hook for what leaves a sandbox.
func outgoing() []rule {
	var rules []rule
	link := inSandbox().link(egress)
	for _, p := range []struct {
		name string
		typ  uint16
	}{{"ip", unix.ETH_P_IP}, {"ip6", unix.ETH_P_IPV6}, {"arp", unix.ETH_P_ARP}} {
		frame := &expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseLLHeader, Offset: 12, Len: 2}
		rules = append(rules, rule{p.name + ", frame too, oifname vmap @policy-from", then(
			etherType(p.typ), []expr.Any{frame, is(byte(p.typ>>8), byte(p.typ))}, []expr.Any{link, vmapOf("policy-from")})})
	}
	return append(rules, rule{"oifname vmap @policy-other", []expr.Any{link, vmapOf("policy-other")}})
}

// policyOther leads from a link to the rule for what is neither IP nor ARP, or
// only says so.
func (t site) policyOther() *nftables.Set {
	return verdictMap(t.table, "policy-other", nftables.TypeIFName)
}

// strictest is the first rule that keeps anything from leaving, if one before it
// does not let all leave.
func strictest(rules []bowline.PolicyRule) uint32 {
	for i, r := range rules {
		all := r.Protocol == "" && len(r.Peers) == 0
		if r.Direction == egress && (r.Action == "deny" || all) {
			return uint32(i)
		}
	}
	return noRule(rules, egress)
}
