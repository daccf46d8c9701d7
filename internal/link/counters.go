package link

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Counters are what passed a link since it was made, seen from its namespace.
// Drops are those of the link itself, not those of a queue (see [Handle.QueueDrops]).
type Counters struct {
	ReceivedBytes, ReceivedPackets, ReceivedDrops uint64
	SentBytes, SentPackets, SentDrops             uint64
}

// Counters returns those of all links, by name, in one question to the kernel.
func (h *Handle) Counters(ctx context.Context) (map[string]Counters, error) {
	const what = "list counters of links"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	all := map[string]Counters{}
	err := h.conn.get(m, true, func(body []byte) {
		if name, c, ok := parseCounters(body); ok {
			all[name] = c
		}
	})
	return all, failure(what, err)
}

// parseCounters reads the first eight fields of struct rtnl_link_stats64
// (linux/if_link.h): packets, bytes, errors and drops, received before sent.
func parseCounters(body []byte) (name string, c Counters, ok bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return "", c, false
	}
	attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		switch {
		case typ == unix.IFLA_IFNAME:
			name = unix.ByteSliceToString(data)
		case typ == unix.IFLA_STATS64 && len(data) >= 64:
			at := func(i int) uint64 { return binary.NativeEndian.Uint64(data[i*8:]) }
			c = Counters{
				ReceivedPackets: at(0), SentPackets: at(1), ReceivedBytes: at(2), SentBytes: at(3),
				ReceivedDrops: at(6), SentDrops: at(7),
			}
			ok = true
		}
	})
	return name, c, ok && name != ""
}

// QueueDrops returns how many packets the queues of links dropped before they
// left, because of a limit, by the name of the link. It takes two questions.
func (h *Handle) QueueDrops(ctx context.Context) (map[string]uint64, error) {
	links, err := h.Links(ctx)
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	drops := map[string]uint64{}
	err = h.conn.get(qdiscMessage(unix.RTM_GETQDISC, unix.NLM_F_DUMP, 0, 0, 0, 0), true, func(body []byte) {
		if len(body) < tcmsgLen {
			return
		}
		name := names[int(native32(body[4:]))]
		within(body[tcmsgLen:], func(typ uint16, data []byte) {
			// struct gnet_stats_queue: length, backlog, drops, ...
			if typ == statsQueue && len(data) >= 12 && name != "" {
				drops[name] += uint64(native32(data[8:]))
			}
		}, unix.TCA_STATS2)
	})
	return drops, failure("list queues of links", err)
}

const statsQueue = 3 // TCA_STATS_QUEUE
