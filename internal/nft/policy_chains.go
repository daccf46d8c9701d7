package nft

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// How long a flow is remembered after its last packet; as conntrack does.
const (
	openTCP    = 5 * 24 * time.Hour
	startTCP   = 2 * time.Minute // of a connection that has not been answered, or ends
	freshUDP   = 3 * time.Minute
	freshOther = 10 * time.Minute
	freshEcho  = 30 * time.Second
	freshParts = 30 * time.Second
)

// Registers of 4 bytes each. A key starts at the first of them.
const (
	reg0 = unix.NFT_REG32_00
	reg4 = unix.NFT_REG32_00 + 4 // behind an interface's name
)

// A side is how one direction, seen from the endpoint, looks in one family.
type side struct {
	site
	direction string
	v6        bool
}

func (s side) family() string {
	if s.v6 {
		return "6"
	}
	return "4"
}

func (s side) chain(what string) string { return "policy-" + what + "-" + s.direction + s.family() }

// ip matches packets of the family. Only where that has been matched in the same
// rule does the nft command print addresses as such, and read them again.
func (s side) ip() []expr.Any {
	if s.v6 {
		return etherType(unix.ETH_P_IPV6)
	}
	return etherType(unix.ETH_P_IP)
}

func (s side) icmp() byte {
	if s.v6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// peer loads the other one's address, and returns the register after it.
func (s side) peer(reg uint32) (expr.Any, uint32) {
	offset, size := uint32(12), uint32(4)
	switch {
	case s.v6 && s.direction == egress:
		offset, size = 24, 16
	case s.v6:
		offset, size = 8, 16
	case s.direction == egress:
		offset = 16
	}
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}, reg + size/4
}

// ports loads the endpoint's own port and the peer's.
func (s side) ports(reg uint32) []expr.Any {
	if s.direction == egress {
		return []expr.Any{th(0, 2, reg), th(2, 2, reg+1)}
	}
	return []expr.Any{th(2, 2, reg), th(0, 2, reg+1)}
}

// A memory is one of the sets of what is remembered, with its key.
type memory struct {
	set     string
	ip, key []expr.Any
}

func (s side) senders() memory {
	peer, _ := s.peer(reg4)
	return memory{"policy-senders" + s.family(), s.ip(), []expr.Any{s.link(s.direction), peer}}
}

func (s side) peers() memory {
	peer, next := s.peer(reg4)
	return memory{"policy-peers" + s.family(), s.ip(), []expr.Any{s.link(s.direction), peer, l4proto(next)}}
}

func (s side) fragments() memory {
	return memory{"policy-fragments" + s.family(), s.ip(), s.peers().key}
}

func (s side) flows() memory {
	_, next := s.peer(reg4)
	return memory{"policy-flows" + s.family(), s.ip(), append(s.peers().key, s.ports(next+1)...)}
}

// has matches what is remembered.
func (m memory) has() []expr.Any {
	return then(m.ip, m.key, []expr.Any{&expr.Lookup{SourceRegister: reg0, SetName: m.set}})
}

// keep remembers for that time, from now on.
func (m memory) keep(timeout time.Duration) []expr.Any {
	return then(m.ip, m.key, []expr.Any{&expr.Dynset{SrcRegKey: reg0, SetName: m.set, Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Timeout: timeout}})
}

// policyChains returns the chains that all policies share.
func (t site) policyChains() []chain {
	var chains []chain
	if !t.inside {
		chains = append(t.hooks(""), translatedChains()...)
	}
	for _, d := range []string{egress, ingress} {
		four, six := side{t, d, false}, side{t, d, true}
		for _, what := range []string{"known", "remember"} {
			rules := []rule{
				{"ip goto " + four.chain(what), then(four.ip(), goTo(four.chain(what)))},
				{"ip6 goto " + six.chain(what), then(six.ip(), goTo(six.chain(what)))},
				{"accept", accept()}, // what is not IP
			}
			if what == "known" {
				rules[2] = rule{"arp accept", then(etherType(unix.ETH_P_ARP), accept())}
			}
			chains = append(chains, chain{&nftables.Chain{Name: "policy-" + what + "-" + d, Table: t.table}, rules})
		}
		for _, s := range []side{four, six} {
			chains = append(chains,
				chain{&nftables.Chain{Name: s.chain("known"), Table: t.table}, s.known()},
				chain{&nftables.Chain{Name: s.chain("remember"), Table: t.table}, s.remember()},
			)
		}
	}
	return chains
}

// known returns the rules that accept what passes whatever a policy says, and
// what was remembered.
func (s side) known() []rule {
	flows, peers, fragments := s.flows(), s.peers(), s.fragments()
	keepOpen := func(name string, flags byte, timeout time.Duration) rule {
		return rule{"tcp " + name + " @" + flows.set + " keep accept", then(tcpFlags(flags), flows.has(), flows.keep(timeout), accept())}
	}
	return append(s.exempt(),
		rule{"later fragment @" + fragments.set + " accept", then(s.laterFragment(), fragments.has(), accept())},
		rule{"first fragment @" + flows.set + " keep in @" + fragments.set, then(s.firstFragment(), hasAnyPort(), flows.has(), fragments.keep(freshParts))},
		rule{"first fragment @" + peers.set + " keep in @" + fragments.set, then(s.firstFragment(), peers.has(), fragments.keep(freshParts))},
		keepOpen("fin", fin, startTCP),
		keepOpen("rst", rst, startTCP),
		keepOpen("syn,ack", syn|ack, openTCP),
		keepOpen("psh", psh, openTCP),
		rule{"tcp @" + flows.set + " accept", then(proto(unix.IPPROTO_TCP), flows.has(), accept())},
		rule{"udp @" + flows.set + " keep accept", then(proto(unix.IPPROTO_UDP), flows.has(), flows.keep(freshUDP), accept())},
		rule{"sctp @" + flows.set + " keep accept", then(proto(unix.IPPROTO_SCTP), flows.has(), flows.keep(freshOther), accept())},
		rule{"echo-reply @" + peers.set + " accept", then(s.echoReply(), peers.has(), accept())},
		rule{"icmp return", then(proto(s.icmp()), []expr.Any{verdict(expr.VerdictReturn, "")})},
		rule{"l4proto @policy-ports return", then(hasAnyPort(), []expr.Any{verdict(expr.VerdictReturn, "")})},
		rule{"@" + peers.set + " keep accept", then(peers.has(), peers.keep(freshOther), accept())},
	)
}

// remember returns the rules that accept what a policy allowed, and the replies
// to it in future.
func (s side) remember() []rule {
	flows, peers, fragments, senders := s.flows(), s.peers(), s.fragments(), s.senders()
	var rules []rule
	if s.direction == ingress {
		rules = append(rules, rule{"keep in @" + senders.set, senders.keep(freshOther)})
	}
	return append(rules,
		rule{"first fragment keep in @" + fragments.set, then(s.firstFragment(), fragments.keep(freshParts))},
		rule{"tcp keep in @" + flows.set + " accept", then(proto(unix.IPPROTO_TCP), flows.keep(startTCP), accept())},
		rule{"udp keep in @" + flows.set + " accept", then(proto(unix.IPPROTO_UDP), flows.keep(freshUDP), accept())},
		rule{"sctp keep in @" + flows.set + " accept", then(proto(unix.IPPROTO_SCTP), flows.keep(freshOther), accept())},
		rule{"echo-request keep in @" + peers.set + " accept", then(s.echoRequest(), peers.keep(freshEcho), accept())},
		rule{"icmp accept", then(proto(s.icmp()), accept())},
		rule{"l4proto @policy-ports accept", then(hasAnyPort(), accept())},
		rule{"keep in @" + peers.set + " accept", then(peers.keep(freshOther), accept())},
		rule{"accept", accept()},
	)
}

// planChain returns the chain of one direction of a policy, which looks up what
// rule is met. other is that of what is neither IP nor ARP.
func (t site) planChain(plan, direction string, other uint32) chain {
	rules := []rule{{"jump policy-known-" + direction, []expr.Any{verdict(expr.VerdictJump, "policy-known-"+direction)}}}
	for _, s := range []side{{t, direction, false}, {t, direction, true}} {
		ports, plain := s.planMaps(plan)
		peer, next := s.peer(reg0)
		key := []expr.Any{peer, l4proto(next)}
		rules = append(rules,
			rule{"by port vmap @" + ports.Name, then(s.ip(), hasAnyPort(), key, []expr.Any{th(2, 2, next+1), vmapOf(ports.Name)})},
			rule{"vmap @" + plain.Name, then(s.ip(), key, []expr.Any{vmapOf(plain.Name)})},
		)
	}
	rules = append(rules, rule{"goto " + ruleName(plan, other), goTo(ruleName(plan, other))})
	return chain{&nftables.Chain{Name: plan + "-" + direction, Table: t.table}, rules}
}

// ruleChain returns the chain of one rule of a policy, which looks up what that
// means for the endpoint.
func (t site) ruleChain(name, direction string) chain {
	return chain{&nftables.Chain{Name: name, Table: t.table}, []rule{
		{t.linkKey(direction) + " vmap @" + name, []expr.Any{t.link(direction), vmapOf(name)}},
	}}
}
