package nft

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Where bridge netfilter is on, what one container sends to another through an
// address of the host, as to a published port, stays on the bridge: the host's
// address is translated in prerouting between our two chains there, and what
// comes back, or has the host as its sender, is translated after all chains of
// postrouting. So the policy of either sees some packets of a connection with
// the host's address and some with the other container's, and must know both:
//
//   - what was allowed is remembered once more as it is after the translation;
//   - what is denied on its way out is dropped only if it is not known as it is
//     after the translation either.

// policyDeny is the chain for what is denied on its way out.
const policyDeny = "policy-deny-egress"

// denied marks, as its priority, a packet that is to be dropped. It is gone, or
// has priority 0 again, before anything but bridge netfilter sees it. A container
// that gives it to a packet of its own only has that looked at twice.
const denied = 0x626f776c

// translatedChains returns the chains for what bridge netfilter may change.
func translatedChains() []chain {
	yes := nftables.ChainPolicyAccept
	priority := nftables.ChainPriority(10)
	table := bridgeTable()
	mark := func(value uint32) []expr.Any {
		return []expr.Any{
			&expr.Immediate{Register: reg0, Data: binary.NativeEndian.AppendUint32(nil, value)},
			&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg0, SourceRegister: true},
		}
	}
	ours := []expr.Any{atBridges().link(egress), &expr.Lookup{SourceRegister: reg0, SetName: "policy-links"}}
	known := []expr.Any{verdict(expr.VerdictJump, "policy-known-egress")}
	return []chain{
		{&nftables.Chain{Name: policyDeny, Table: table}, []rule{
			{"priority set, to be dropped by policy-denied", then(mark(denied), accept())},
		}},
		{&nftables.Chain{Name: "policy-translated", Table: table, Type: nftables.ChainTypeFilter, Policy: &yes, Hooknum: nftables.ChainHookPrerouting, Priority: &priority}, []rule{
			{"priority of policy-deny-egress goto policy-denied", then([]expr.Any{
				&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg0}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: binary.NativeEndian.AppendUint32(nil, denied)},
			}, goTo("policy-denied"))},
			{"tcp syn iifname @policy-links goto policy-new", then(proto(unix.IPPROTO_TCP), masked(th(13, 1, reg0), []byte{syn | ack}, []byte{syn}, expr.CmpOpEq), ours, goTo("policy-new"))},
			{"udp iifname @policy-links goto policy-new", then(proto(unix.IPPROTO_UDP), ours, goTo("policy-new"))},
			{"sctp iifname @policy-links goto policy-new", then(proto(unix.IPPROTO_SCTP), ours, goTo("policy-new"))},
		}},
		{&nftables.Chain{Name: "policy-denied", Table: table}, []rule{
			{"priority set 0", mark(0)},
			{"jump policy-known-egress", known},
			{"iifname @policy-links drop", append(ours[:len(ours):len(ours)], verdict(expr.VerdictDrop, ""))},
		}},
		{&nftables.Chain{Name: "policy-new", Table: table}, []rule{
			{"jump policy-known-egress", known},
			{"goto policy-remember-egress", goTo("policy-remember-egress")},
		}},
	}
}
