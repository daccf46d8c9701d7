package nft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// The policy of an endpoint decides at its port of the bridge, where everything
// passes that it sends or receives, bridged, routed or to and from the host: in
// the bridge family, before anything else egress and after anything else
// ingress. There a packet has the addresses that the container uses. A link that
// has no other end in the host has its policy inside: see Sandbox.
//
// Endpoints with equal policies share its plan: interval maps that say which
// rule is met, and a map for each rule that says what it means to whom, and
// counts. An endpoint's own are an element for each direction and for each rule.
// So a packet of an endpoint without policy costs a look into a hash map, and
// any other as much with one endpoint as with a thousand.
//
// Replies must pass, and connection tracking in the bridge family
// (CONFIG_NF_CONNTRACK_BRIDGE) is not in every kernel, so what a policy allowed
// is remembered in sets, with timeouts as those of conntrack.
//
//	table bridge bowline {                           # F is 4 and 6
//	  map policy-from { ifname : verdict }           from a port: goto policy-PLAN-egress
//	  map policy-to   { ifname : verdict }           to a port: goto policy-PLAN-ingress
//	  set policy-links { ifname }                    the same ports
//	  map policy-PLAN-DIRECTION-F       { peer . proto . receiver's port : verdict }  goto policy-PLAN-NUMBER
//	  map policy-PLAN-DIRECTION-F-plain { peer . proto : verdict }  likewise, of protocols without ports
//	  map policy-PLAN-NUMBER { ifname : verdict }    drop, goto policy-deny-egress, or goto policy-remember-DIRECTION
//	  set policy-flowsF     { ifname . peer . proto . own port . peer's port }
//	  set policy-peersF     { ifname . peer . proto }  as flows, of protocols without ports
//	  set policy-fragmentsF { ifname . peer . proto }  has sent, or got, a first fragment
//	  set policy-sendersF   { ifname . peer }        has sent something that was allowed
//	  set policy-ports      { proto }                those with ports: TCP, UDP, SCTP
//	  chain policy-egress   { hook prerouting; iifname vmap @policy-from }
//	  chain policy-ingress  { hook postrouting; oifname vmap @policy-to }
//	  chain policy-deny-egress { to be dropped by the next }
//	  chain policy-translated { hook prerouting, after bridge netfilter: what is known as it is now, or new }
//	  chain policy-PLAN-DIRECTION { jump policy-known-DIRECTION; which rule is met }
//	  chain policy-PLAN-NUMBER { ifname vmap @policy-PLAN-NUMBER }
//	  chain policy-known-DIRECTION    { accept ARP, ND, DHCP and what was remembered }
//	  chain policy-remember-DIRECTION { accept, and remember }
//	}
const policyPrefix = "policy-"

// policyMemory bounds the sets of flows, for all endpoints of bridges together, at
// as many as conntrack has on a host of 8 GiB. The kernel makes room for as many
// when it makes the set, 4 MB, until the first is forgotten. It bounds the other
// sets at 65535, and all those of a sandbox.
const policyMemory = 1 << 18

func (t site) policyFrom() *nftables.Set {
	return verdictMap(t.table, "policy-from", nftables.TypeIFName)
}

func (t site) policyTo() *nftables.Set {
	return verdictMap(t.table, "policy-to", nftables.TypeIFName)
}

func (t site) policyLinks() *nftables.Set { return set(t.table, "policy-links", nftables.TypeIFName) }

func (t site) policyPorts() *nftables.Set {
	return set(t.table, "policy-ports", nftables.TypeInetProto)
}

// policyHits is the map of one rule of a plan.
func (t site) policyHits(name string) *nftables.Set {
	s := verdictMap(t.table, name, nftables.TypeIFName)
	s.Counter = true
	return s
}

// memories returns the sets of what is remembered.
func (t site) memories() []*nftables.Set {
	var all []*nftables.Set
	for _, f := range []struct {
		name string
		addr nftables.SetDatatype
	}{{"4", nftables.TypeIPAddr}, {"6", nftables.TypeIP6Addr}} {
		all = append(all,
			set(t.table, "policy-flows"+f.name, concat(nftables.TypeIFName, f.addr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeInetService)),
			set(t.table, "policy-peers"+f.name, concat(nftables.TypeIFName, f.addr, nftables.TypeInetProto)),
			set(t.table, "policy-fragments"+f.name, concat(nftables.TypeIFName, f.addr, nftables.TypeInetProto)),
			set(t.table, "policy-senders"+f.name, concat(nftables.TypeIFName, f.addr)),
		)
	}
	for _, s := range all {
		s.Dynamic, s.HasTimeout = true, true
		if !t.inside && strings.HasPrefix(s.Name, "policy-flows") {
			s.Size = policyMemory
		}
	}
	return all
}

// A planned policy is what endpoints with equal policies share.
type planned struct {
	chains []chain
	maps   []*nftables.Set
	boxes  []element
}

// planName starts the names of the policy's maps and chains.
func planName(rules []bowline.PolicyRule) string {
	var b strings.Builder
	for _, r := range rules {
		r.Network = "" // its prefixes are what counts
		b.WriteString(r.String() + ";")
	}
	return bowline.LinkName(policyPrefix, b.String())
}

func ruleName(plan string, rule uint32) string { return fmt.Sprintf("%s-%d", plan, rule) }

// plannedPolicy makes the plan of a policy. The error wraps [bowline.ErrInvalid]
// if it is too large.
func (t site) plannedPolicy(rules []bowline.PolicyRule) (planned, error) {
	var all planned
	name := planName(rules)
	for _, direction := range []string{egress, ingress} {
		var other uint32
		for _, v6 := range []bool{false, true} {
			p, err := planPolicy(rules, direction, v6)
			if err != nil {
				return all, err
			}
			s := side{t, direction, v6}
			ported, plain := s.planMaps(name)
			all.maps = append(all.maps, ported, plain)
			for _, b := range p.boxes {
				all.boxes = append(all.boxes, b.elements(ported, plain, ruleName(name, b.rule))...)
			}
			other = p.other
		}
		all.chains = append(all.chains, t.planChain(name, direction, other))
	}
	for i := range uint32(len(rules) + 2) {
		direction, _ := decision(rules, i)
		all.chains = append(all.chains, t.ruleChain(ruleName(name, i), direction))
		all.maps = append(all.maps, t.policyHits(ruleName(name, i)))
	}
	return all, nil
}

// decision is what a rule by that number says; the last two say to allow.
func decision(rules []bowline.PolicyRule, number uint32) (direction, action string) {
	switch number {
	case noRule(rules, ingress):
		return ingress, "allow"
	case noRule(rules, egress):
		return egress, "allow"
	}
	return rules[number].Direction, rules[number].Action
}

// planMaps are the interval maps of a plan: for protocols with ports, and for
// all, where no port can be read.
func (s side) planMaps(plan string) (ported, plain *nftables.Set) {
	addr := nftables.TypeIPAddr
	if s.v6 {
		addr = nftables.TypeIP6Addr
	}
	name := plan + "-" + s.direction + "-" + s.family()
	ported = verdictMap(s.table, name, concat(addr, nftables.TypeInetProto, nftables.TypeInetService))
	plain = verdictMap(s.table, name+"-plain", concat(addr, nftables.TypeInetProto))
	ported.Interval, plain.Interval = true, true
	return ported, plain
}

// elements returns the box as elements of the two maps of its plan.
func (b box) elements(ported, plain *nftables.Set, chain string) []element {
	key := func(i int, port bool) []byte {
		k := append(b.peers[i].AsSlice(), b.protos[i], 0, 0, 0)
		if port {
			k = append(binary.BigEndian.AppendUint16(k, b.ports[i]), 0, 0)
		}
		return k
	}
	var es []element
	for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		if b.protos[0] <= p && p <= b.protos[1] {
			es = append(es, element{ported, nftables.SetElement{Key: key(0, true), KeyEnd: key(1, true), VerdictData: verdict(expr.VerdictGoto, chain), Comment: chain}})
			break
		}
	}
	if b.ports[0] == 0 {
		es = append(es, element{plain, nftables.SetElement{Key: key(0, false), KeyEnd: key(1, false), VerdictData: verdict(expr.VerdictGoto, chain), Comment: chain}})
	}
	return es
}

// policyElements are the endpoint's own.
func (e Endpoint) policyElements(t site, n Network) []element {
	if len(e.Policy) == 0 {
		return nil
	}
	plan, port := planName(e.Policy), name16(e.Port)
	key := comments(n.ID, e.ID)
	own := func(s *nftables.Set, v *expr.Verdict) element {
		return element{s, nftables.SetElement{Key: port, Comment: key, VerdictData: v}}
	}
	es := []element{
		own(t.policyFrom(), verdict(expr.VerdictGoto, plan+"-"+egress)),
		own(t.policyTo(), verdict(expr.VerdictGoto, plan+"-"+ingress)),
	}
	if t.inside {
		es = append(es, own(t.policyOther(), verdict(expr.VerdictGoto, ruleName(plan, strictest(e.Policy)))))
	} else {
		es = append(es, own(t.policyLinks(), nil))
	}
	key, _, _ = strings.Cut(key, " ") // there can be thousands
	for i := range uint32(len(e.Policy) + 2) {
		direction, action := decision(e.Policy, i)
		v := verdict(expr.VerdictGoto, "policy-remember-"+direction)
		switch {
		case action == "deny" && direction == egress && !t.inside:
			v = verdict(expr.VerdictGoto, policyDeny)
		case action == "deny":
			v = verdict(expr.VerdictDrop, "")
		}
		es = append(es, own(t.policyHits(ruleName(plan, i)), v))
	}
	return es
}

// setUpPolicy adds what the endpoint's policy needs.
func (e Endpoint) setUpPolicy(c *nftables.Conn, t site) error {
	if len(e.Policy) == 0 {
		return nil
	}
	plan, err := t.plannedPolicy(e.Policy)
	if err != nil {
		return err
	}
	c.AddTable(t.table)
	for _, s := range append(t.policySets(), plan.maps...) {
		_ = c.AddSet(s, nil) // fails for anonymous sets only
	}
	chains := slices.Concat(t.policyChains(), plan.chains, t.ownHooks(e))
	for _, ch := range chains {
		c.AddChain(ch.Chain)
	}
	for _, ch := range chains {
		ch.fill(c)
	}
	return queue(c, append(t.portedProtocols(), plan.boxes...), (*nftables.Conn).SetAddElements)
}

// policySets are those that all policies share.
func (t site) policySets() []*nftables.Set {
	all := append(t.memories(), t.policyFrom(), t.policyTo(), t.policyPorts())
	if t.inside {
		return append(all, t.policyOther())
	}
	return append(all, t.policyLinks())
}

func (t site) portedProtocols() []element {
	var es []element
	s := t.policyPorts()
	for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		es = append(es, element{s, nftables.SetElement{Key: []byte{p}}})
	}
	return es
}

// queue adds elements to the transaction, many of a set with one message; the
// kernel answers each.
func queue(c *nftables.Conn, elements []element, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	const most = 100 // a message's list has room for 64 KiB
	for len(elements) > 0 {
		s, n := elements[0].set, 1
		for n < min(len(elements), most) && elements[n].set == s {
			n++
		}
		es := make([]nftables.SetElement, n)
		for i, e := range elements[:n] {
			es[i] = e.SetElement
		}
		if err := do(c, s, es); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}
