package nft

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Condition is something that a packet must meet: one of the fields says what.
type Condition struct {
	Not         bool
	From, To    netip.Prefix // sender, or receiver before translation
	In          string       // link that it comes in by; a name that ends in + stands for all that begin so
	Mark        *Mark
	SourcePorts *bowline.PortRange
}

// A Mark is what a packet's mark is under the mask.
type Mark struct{ Value, Mask uint32 }

// String returns the condition as nft writes it.
func (c Condition) String() string {
	op := ""
	if c.Not {
		op = "!= "
	}
	switch {
	case c.From.IsValid():
		return "saddr " + op + c.From.String()
	case c.To.IsValid():
		return "daddr " + op + c.To.String()
	case c.In != "":
		return "iifname " + op + c.In
	case c.Mark != nil:
		return fmt.Sprintf("mark %s%#x/%#x", op, c.Mark.Value, c.Mark.Mask)
	case c.SourcePorts != nil:
		return fmt.Sprintf("th sport %s%d-%d", op, c.SourcePorts.First, c.SourcePorts.Last)
	}
	return ""
}

func (c Condition) exprs(f family) []expr.Any {
	op := expr.CmpOpEq
	if c.Not {
		op = expr.CmpOpNeq
	}
	switch {
	case c.From.IsValid():
		return f.compares(f.saddr, c.From, op)
	case c.To.IsValid():
		return f.compares(f.daddr, c.To, op)
	case c.In != "":
		name, all := strings.CutSuffix(c.In, "+")
		data := name16(name)
		if all {
			data = []byte(name)
		}
		return []expr.Any{ifname(expr.MetaKeyIIFNAME, 1), &expr.Cmp{Op: op, Register: 1, Data: data}}
	case c.Mark != nil:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, bits(c.Mark.Mask),
			&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(c.Mark.Value)},
		}
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Range{Op: op, Register: 1, FromData: binaryutil.BigEndian.PutUint16(c.SourcePorts.First), ToData: binaryutil.BigEndian.PutUint16(c.SourcePorts.Last)},
	}
}

// A gate is what a packet passes on its way to a port that not everybody may use.
type gate struct {
	f          family
	conditions []Condition
	input      bool // the host's own firewall must let it in
}

func (p Publishing) gate(f family) gate {
	if f.size == 4 {
		return gate{f, p.Conditions4, p.RespectInput}
	}
	return gate{f, p.Conditions6, p.RespectInput}
}

const (
	portIf       = "port-if-"
	portAdmitted = "port-admitted"
)

// name returns the gate's chain, or "" for an open one. It is a function of what
// the gate asks for, so networks can share it and anybody can make it again.
func (g gate) name() string {
	switch {
	case len(g.conditions) > 0:
		return bowline.LinkName(portIf, g.text(), g.behind())
	case g.input:
		return portAdmitted
	}
	return ""
}

func (g gate) text() string {
	var words []string
	for _, c := range g.conditions {
		words = append(words, c.String())
	}
	return strings.Join(words, " ")
}

// behind is where the gate's conditions lead to.
func (g gate) behind() string {
	if g.input {
		return portAdmitted
	}
	return portLead
}

func (g gate) chain() chain {
	var es []expr.Any
	for _, c := range g.conditions {
		es = append(es, c.exprs(g.f)...)
	}
	return chain{&nftables.Chain{Name: g.name(), Table: g.f.table}, []rule{
		{g.text() + " goto " + g.behind(), append(es, verdict(expr.VerdictGoto, g.behind()))},
	}}
}

// A network that respects the host's input policy leads only senders that are
// admitted. The first packet of another is let go on as if nothing were
// published; if no firewall drops it before it gets to the end of the input
// hook, its sender is admitted there for some time, and the packet is dropped,
// for nobody waits for it: the sender's second try, after a second with TCP,
// is led to the endpoint.

// admitted is how long a sender stays so before the input policy is asked again.
const admitted = 10 * time.Minute

// portAsks holds the ports of such networks.
func (f family) portAsks() *nftables.Set {
	s := set(f.table, "port-asks", concat(f.addr, nftables.TypeInetProto, nftables.TypeInetService))
	s.Interval = true
	return s
}

func (f family) portAdmitted() *nftables.Set {
	s := set(f.table, portAdmitted, concat(f.addr, nftables.TypeInetProto, nftables.TypeInetService))
	s.Dynamic, s.HasTimeout, s.Timeout, s.Size = true, true, admitted, 1<<16
	return s
}

// admissionChains asks and answers. What the host itself sends passes no input
// policy on its way to another's door.
func (f family) admissionChains() []chain {
	accept, late := nftables.ChainPolicyAccept, nftables.ChainPriority(1000)
	sender := append([]expr.Any{f.load(f.saddr, 1)}, loadService(unix.NFT_REG32_00+f.size/4)...)
	return []chain{
		{&nftables.Chain{Name: portAdmitted, Table: f.table}, []rule{
			{"fib saddr type local goto " + portLead, []expr.Any{
				&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: true},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
				verdict(expr.VerdictGoto, portLead),
			}},
			{"saddr . l4proto . th dport @port-admitted goto " + portLead, append(sender[:len(sender):len(sender)], lookup(portAdmitted), verdict(expr.VerdictGoto, portLead))},
		}},
		{&nftables.Chain{
			Name: "port-asked", Table: f.table, Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookInput, Priority: &late,
		}, []rule{
			{"ct state new daddr . l4proto . th dport @port-asks admit and drop", append(append([]expr.Any{
				&expr.Ct{Register: 1, Key: expr.CtKeySTATE}, bits(expr.CtStateBitNEW), notZero()}, f.thisPort()...),
				append(append([]expr.Any{lookup("port-asks")}, sender...),
					&expr.Dynset{SrcRegKey: 1, SetName: portAdmitted, Operation: unix.NFT_DYNSET_OP_ADD, Timeout: admitted},
					verdict(expr.VerdictDrop, ""))...)},
		}},
	}
}
