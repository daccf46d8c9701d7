package link

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// A Bucket limits what leaves a link: a token bucket filter (man 8 tc-tbf). It
// counts whole Ethernet frames.
type Bucket struct {
	Rate  uint64 // bit/s; 0: no limit
	Burst uint64 // bytes that may leave at once after a pause; 0: what suits Rate
}

// From linux/pkt_sched.h, pkt_cls.h and tc_act.
const (
	tbfParms  = 1 // TCA_TBF_PARMS
	tbfRate64 = 4 // TCA_TBF_RATE64
	tbfBurst  = 6 // TCA_TBF_BURST

	u32Sel      = 5 // TCA_U32_SEL
	u32Act      = 7 // TCA_U32_ACT
	actKind     = 1 // TCA_ACT_KIND
	actOptions  = 2 // TCA_ACT_OPTIONS
	mirredParms = 2 // TCA_MIRRED_PARMS

	rootParent    = 0xffffffff // TC_H_ROOT
	ingressParent = 0xfffffff1 // TC_H_INGRESS
	filterParent  = 0xfffffff2 // TC_H_CLSACT, TC_H_MIN_INGRESS: of qdisc ingress too
	rootHandle    = 0x00010000 // 1:
	ingressHandle = 0xffff0000 // ffff:

	redirect = 1 // TCA_EGRESS_REDIR
	tcmsgLen = 20
)

// Chosen by measurement (bench shape). The bucket must hold what a busy host is
// late by: at 5 Gbit/s and a load of four times the cores 10 ms lost a tenth of
// the rate, 25 ms nothing. And it must stay far below a hundredth of what passes
// in five seconds. The queue must hold what a TCP sender has on its way when it
// learns of the first loss: at 10 Mbit/s 25 ms cost most streams a time-out of
// 0.2 s, 50 ms none. And no more, for what waits in it is late.
const (
	burstTime = 25 * time.Millisecond
	queueTime = 50 * time.Millisecond
	minBurst  = 16 << 10 // bytes: ten frames
)

// A tbf is a Bucket as the kernel keeps it; the zero tbf is none.
type tbf struct {
	rate  uint64 // bytes/s
	burst uint32 // bytes; as the kernel tells it, unknown
	ticks uint32 // of 64 ns, that a burst takes at rate: all the kernel tells of burst
	queue uint32 // bytes that may wait
}

// on returns b as the kernel is to have it on a link of that MTU: a bucket that
// cannot hold the largest frame would let none pass.
func (b Bucket) on(mtu int) tbf {
	if b.Rate == 0 {
		return tbf{}
	}
	if b.Burst == 0 {
		b.Burst = max(b.in(burstTime), minBurst)
	}
	frame := uint64(mtu) + 18 // with Ethernet header and VLAN tag
	t := tbf{rate: max(b.Rate/8, 1), burst: uint32(min(max(b.Burst, frame), math.MaxUint32))}
	t.queue = uint32(min(uint64(t.burst)+b.in(queueTime), math.MaxUint32))
	t.ticks = ticks(t.rate, t.burst)
	return t
}

// in returns the bytes that b lets pass in t.
func (b Bucket) in(t time.Duration) uint64 {
	return uint64(float64(b.Rate) / 8 * t.Seconds())
}

// ticks is how long that many bytes take at the rate, computed and cut as the
// kernel does (psched_ratecfg_precompute, psched_l2t_ns and PSCHED_NS2TICKS in
// net/sched/sch_generic.c and include/net).
func ticks(rate uint64, bytes uint32) uint32 {
	factor, shift := uint64(time.Second), 0
	for ; factor/rate&(1<<31) == 0 && factor&(1<<63) == 0; factor <<= 1 {
		shift++
	}
	return uint32(uint64(bytes) * (factor / rate) >> shift >> 6)
}

func (t tbf) none() bool { return t.rate == 0 }

// same reports whether t, as the kernel told it, is want.
func (t tbf) same(want tbf) bool {
	return t.rate == want.rate && t.ticks == want.ticks && t.queue == want.queue
}

// String is for people.
func (t tbf) String() string {
	if t.none() {
		return ""
	}
	burst := uint64(t.burst)
	if burst == 0 {
		burst = uint64(float64(t.ticks) * 64e-9 * float64(t.rate))
	}
	return fmt.Sprintf("%d bit/s, burst %d bytes, queue %d bytes", t.rate*8, burst, t.queue)
}

// qdiscMessage starts struct tcmsg.
func qdiscMessage(typ, flags uint16, index int, handle, parent, info uint32) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m.b = append(m.b, unix.AF_UNSPEC, 0, 0, 0)
	m.u32s(uint32(index), handle, parent, info)
	return m
}

// message makes t the root of the link with that index, or changes the one that
// is there.
func (t tbf) message(index int) *msg {
	m := qdiscMessage(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, rootHandle, rootParent, 0)
	m.str(unix.TCA_KIND, "tbf")
	m.nest(unix.TCA_OPTIONS, func() {
		// struct tc_tbf_qopt: two struct tc_ratespec, limit, buffer, mtu. With
		// a link layer, Ethernet, the kernel needs no table of times; with
		// the burst in bytes beside, no buffer in ticks, which overflow.
		parms := make([]byte, 36)
		parms[1] = 1 // TC_LINKLAYER_ETHERNET
		binary.NativeEndian.PutUint32(parms[8:], uint32(min(t.rate, math.MaxUint32)))
		binary.NativeEndian.PutUint32(parms[24:], t.queue)
		m.attr(tbfParms, parms)
		m.attr(tbfRate64, binary.NativeEndian.AppendUint64(nil, t.rate))
		m.u32(tbfBurst, t.burst)
	})
	return m
}

// ingressMessage gives the link a place where filters see what comes in by it.
func ingressMessage(index int) *msg {
	m := qdiscMessage(unix.RTM_NEWQDISC, unix.NLM_F_CREATE, index, ingressHandle, ingressParent, 0)
	m.str(unix.TCA_KIND, "ingress")
	return m
}

// redirectMessage leads all that comes in by the link to leave by another. The
// filter is u32 with a key that everything matches: it is the one that every
// kernel has which the reference plugin works on.
func redirectMessage(index, to int) *msg {
	m := filterMessage(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index)
	m.str(unix.TCA_KIND, "u32")
	m.nest(unix.TCA_OPTIONS, func() {
		sel := make([]byte, 32) // struct tc_u32_sel and one struct tc_u32_key, 0 of 0
		sel[0], sel[2] = 1, 1   // TC_U32_TERMINAL, one key
		m.attr(u32Sel, sel)
		m.nest(u32Act, func() {
			m.nest(1, func() {
				m.str(actKind, "mirred")
				m.nest(actOptions, func() {
					parms := make([]byte, 28)                   // struct tc_mirred
					binary.NativeEndian.PutUint32(parms[8:], 4) // TC_ACT_STOLEN
					binary.NativeEndian.PutUint32(parms[20:], redirect)
					binary.NativeEndian.PutUint32(parms[24:], uint32(to))
					m.attr(mirredParms, parms)
				})
			})
		})
	})
	return m
}

// unredirectMessage takes that filter away.
func unredirectMessage(index int) *msg { return filterMessage(unix.RTM_DELTFILTER, 0, index) }

// filterMessage starts a message of our filter, which has a preference of its
// own.
func filterMessage(typ, flags uint16, index int) *msg {
	const preference = 0xb0
	all := uint32(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})) // in network order
	return qdiscMessage(typ, flags, index, 0, filterParent, preference<<16|all)
}
