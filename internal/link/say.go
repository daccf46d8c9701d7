package link

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// What a message asks for, in the words of ip, bridge and tc.

func (m *msg) typ() uint16   { return binary.NativeEndian.Uint16(m.b[4:]) }
func (m *msg) flags() uint16 { return binary.NativeEndian.Uint16(m.b[6:]) }

// fixedLen is the length of what comes before a message's attributes.
func (m *msg) fixedLen() int {
	switch m.typ() {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return unix.SizeofIfAddrmsg
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return unix.SizeofRtMsg
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		return tcmsgLen
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return unix.SizeofNdMsg
	}
	return unix.SizeofIfInfomsg
}

// cString is a string that may have lost the byte that ends it.
func cString(b []byte) string { return strings.TrimRight(string(b), "\x00") }

// attr1 returns the last attribute of that type, nil if there is none.
func (m *msg) attr1(want uint16) (found []byte) {
	attrs(m.b[headerLen+m.fixedLen():], func(typ uint16, data []byte) {
		if typ == want {
			found = data
		}
	})
	return found
}

func (m *msg) text(want uint16) string { return cString(m.attr1(want)) }

// kind is that of the link that a message makes.
func (m *msg) kind() (kind string) {
	within(m.b[headerLen+unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		if typ == unix.IFLA_INFO_KIND {
			kind = cString(data)
		}
	}, unix.IFLA_LINKINFO)
	return kind
}

// infoData is what a message says of the link beside its kind.
func (m *msg) infoData() (found []byte) {
	within(m.b[headerLen+unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		if typ == unix.IFLA_INFO_DATA {
			found = data
		}
	}, unix.IFLA_LINKINFO)
	return found
}

// say returns what the message asks for.
func (s *space) say(c *conn, m *msg) string {
	body := m.b[headerLen:]
	dev := func() string { return " dev " + s.nameAt(c, int(native32(body[4:]))) }
	switch m.typ() {
	case unix.RTM_NEWLINK:
		if m.flags()&unix.NLM_F_CREATE != 0 {
			return "ip link add " + m.text(unix.IFLA_IFNAME) + s.sayLink(c, body) + s.sayKind(c, m)
		}
		return "ip link set " + s.nameAt(c, s.target(c, m)) + s.sayLink(c, body) + sayPort(body)
	case unix.RTM_DELLINK:
		if body[0] == unix.AF_BRIDGE {
			return "bridge vlan del" + dev() + sayVLANs(m)
		}
		if id := m.attr1(unix.IFLA_TARGET_NETNSID); len(id) == 4 {
			return fmt.Sprintf("ip link del link %d of namespace %d", native32(body[4:]), native32(id))
		}
		if name := m.text(unix.IFLA_IFNAME); name != "" {
			return "ip link del " + name
		}
		if group := m.attr1(unix.IFLA_GROUP); group != nil {
			return fmt.Sprintf("ip link del group %d", native32(group))
		}
		return "ip link del" + dev()
	case unix.RTM_SETLINK:
		return "bridge vlan add" + dev() + sayVLANs(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		p, _, _ := parseAddr(body)
		verb, more := "add", ""
		if m.typ() == unix.RTM_DELADDR {
			verb = "del"
		} else if body[2]&unix.IFA_F_NODAD != 0 {
			more = " nodad"
		}
		return "ip addr " + verb + " " + p.String() + dev() + more
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return s.sayRoute(c, m)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return sayNeighbour(m, dev())
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		return s.sayTraffic(c, m, dev())
	}
	return fmt.Sprintf("rtnetlink message of type %d", m.typ())
}

// sayLink says what is the same for a new link and a change.
func (s *space) sayLink(c *conn, body []byte) string {
	var b strings.Builder
	attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_LINK:
			fmt.Fprintf(&b, " link %s", s.nameAt(c, int(native32(data))))
		case unix.IFLA_ADDRESS:
			fmt.Fprintf(&b, " address %s", net.HardwareAddr(data))
		case unix.IFLA_MTU:
			fmt.Fprintf(&b, " mtu %d", native32(data))
		case unix.IFLA_MASTER:
			fmt.Fprintf(&b, " master %s", s.nameAt(c, int(native32(data))))
		case unix.IFLA_IFALIAS:
			fmt.Fprintf(&b, " alias %q", cString(data))
		case unix.IFLA_GROUP:
			fmt.Fprintf(&b, " group %d", native32(data))
		case unix.IFLA_TXQLEN:
			fmt.Fprintf(&b, " txqueuelen %d", native32(data))
		case unix.IFLA_NET_NS_FD:
			if to := s.byFd(native32(data)); to != nil {
				fmt.Fprintf(&b, " netns %s", to.name)
			}
		case unix.IFLA_IFNAME:
			if native32(body[4:]) != 0 { // else it says which link is meant
				fmt.Fprintf(&b, " name %s", cString(data))
			}
		case unix.IFLA_AF_SPEC:
			attrs(data, func(family uint16, data []byte) {
				attrs(data, func(typ uint16, data []byte) {
					switch {
					case family == unix.AF_INET6 && typ == 8 && data[0] == 1: // IFLA_INET6_ADDR_GEN_MODE
						b.WriteString(" addrgenmode none")
					case family == unix.AF_INET && typ == 1: // IFLA_INET_CONF
						b.WriteString(" arp_notify on") // no word of ip's
					}
				})
			})
		}
	})
	flags, change := native32(body[8:]), native32(body[12:])
	for _, f := range []struct {
		bit     uint32
		on, off string
	}{{unix.IFF_PROMISC, " promisc on", " promisc off"}, {unix.IFF_ALLMULTI, " allmulticast on", " allmulticast off"}, {unix.IFF_UP, " up", " down"}} {
		if change&f.bit != 0 && flags&f.bit != 0 {
			b.WriteString(f.on)
		} else if change&f.bit != 0 {
			b.WriteString(f.off)
		}
	}
	return b.String()
}

// sayKind says what is of a new link's kind.
func (s *space) sayKind(c *conn, m *msg) string {
	var b strings.Builder
	fmt.Fprintf(&b, " type %s", m.kind())
	within(m.b[headerLen+unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		switch {
		case m.kind() == "bridge" && typ == unix.IFLA_BR_VLAN_FILTERING:
			fmt.Fprintf(&b, " vlan_filtering %d", data[0])
		case m.kind() == "macvlan" && typ == macvlanMode:
			var seen Seen
			seen.parseMacvlan(m.infoData())
			fmt.Fprintf(&b, " mode %s", seen.Mode)
			for _, mac := range seen.Sources {
				fmt.Fprintf(&b, " macaddr add %s", mac)
			}
		case m.kind() == "vxlan" && typ == vxlanID:
			fmt.Fprintf(&b, " id %d", native32(data))
		case m.kind() == "vxlan" && (typ == vxlanLocal || typ == vxlanLocal6):
			local, _ := netip.AddrFromSlice(data)
			fmt.Fprintf(&b, " local %s", local)
		case m.kind() == "vxlan" && typ == vxlanLearning:
			b.WriteString(" nolearning")
		case m.kind() == "vxlan" && typ == vxlanPort:
			fmt.Fprintf(&b, " dstport %d", binary.BigEndian.Uint16(data))
		case m.kind() == "vlan" && typ == 1: // IFLA_VLAN_ID
			fmt.Fprintf(&b, " id %d", binary.NativeEndian.Uint16(data))
		case m.kind() == "veth" && typ == 1 && len(data) >= unix.SizeofIfInfomsg:
			fmt.Fprintf(&b, " peer name %s%s", nameOf(data), s.sayLink(c, data))
		}
	}, unix.IFLA_LINKINFO, unix.IFLA_INFO_DATA)
	return b.String()
}

// sayPort says how a bridge is to treat its port, or is to treat VLANs.
func sayPort(body []byte) string {
	var b strings.Builder
	within(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_BRPORT_MODE:
			fmt.Fprintf(&b, " type bridge_slave hairpin %s", onOff(data[0]))
		case unix.IFLA_BRPORT_ISOLATED:
			fmt.Fprintf(&b, " isolated %s", onOff(data[0]))
		}
	}, unix.IFLA_LINKINFO, unix.IFLA_INFO_SLAVE_DATA)
	within(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		if typ == unix.IFLA_BR_VLAN_FILTERING {
			fmt.Fprintf(&b, " type bridge vlan_filtering %d", data[0])
		}
	}, unix.IFLA_LINKINFO, unix.IFLA_INFO_DATA)
	return b.String()
}

func onOff(b byte) string {
	if b == 0 {
		return "off"
	}
	return "on"
}

func sayVLANs(m *msg) string {
	var b strings.Builder
	within(m.b[headerLen+unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		if typ != bridgeVLANInfo || len(data) < 4 {
			return
		}
		flags, id := binary.NativeEndian.Uint16(data), binary.NativeEndian.Uint16(data[2:])
		if flags&vlanRangeEnd != 0 {
			fmt.Fprintf(&b, "-%d", id)
			return
		}
		fmt.Fprintf(&b, " vid %d", id)
		if flags&vlanPVID != 0 {
			b.WriteString(" pvid")
		}
		if flags&vlanUntagged != 0 {
			b.WriteString(" untagged")
		}
	}, unix.IFLA_AF_SPEC)
	return b.String()
}

func (s *space) sayRoute(c *conn, m *msg) string {
	if r, ok := parseTunnelRoute(m.b[headerLen:], 0); ok && r.Unreachable {
		verb := "replace"
		if m.typ() == unix.RTM_DELROUTE {
			verb = "del"
		}
		return fmt.Sprintf("ip route %s unreachable %s metric %d", verb, r.Dst, r.Priority)
	}
	r, _ := parseRoute(m.b[headerLen:])
	verb := "add"
	if m.typ() == unix.RTM_DELROUTE {
		verb = "del"
	}
	to := r.Dst.String()
	if r.Dst == netip.PrefixFrom(r.Dst.Addr(), 0) {
		to = "default"
	}
	text := "ip route " + verb + " " + to
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	text += " dev " + s.nameAt(c, r.Index)
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	if *r.Table != unix.RT_TABLE_MAIN {
		text += fmt.Sprintf(" table %d", *r.Table)
	}
	if r.MTU != 0 {
		text += fmt.Sprintf(" mtu %d", r.MTU)
	}
	if r.AdvMSS != 0 {
		text += fmt.Sprintf(" advmss %d", r.AdvMSS)
	}
	return text
}

// sayTraffic says what is for tc.
func (s *space) sayTraffic(c *conn, m *msg, dev string) string {
	kind := m.text(unix.TCA_KIND)
	switch m.typ() {
	case unix.RTM_DELQDISC:
		return "tc qdisc del" + dev + sayParent(native32(m.b[headerLen+12:]))
	case unix.RTM_DELTFILTER:
		return "tc filter del" + dev + " ingress"
	case unix.RTM_NEWTFILTER:
		return "tc filter add" + dev + " ingress matchall action mirred egress redirect" + s.sayMirred(c, m)
	}
	text := "tc qdisc replace" + dev + sayParent(native32(m.b[headerLen+12:]))
	if kind != "tbf" {
		return text
	}
	var t tbf
	attrs(m.attr1(unix.TCA_OPTIONS), func(typ uint16, data []byte) {
		switch typ {
		case tbfParms:
			t.queue = native32(data[24:])
		case tbfRate64:
			t.rate = binary.NativeEndian.Uint64(data)
		case tbfBurst:
			t.burst = native32(data)
		}
	})
	return text + fmt.Sprintf(" tbf rate %dbit burst %d limit %d", t.rate*8, t.burst, t.queue)
}

func sayParent(parent uint32) string {
	switch parent {
	case rootParent:
		return " root"
	case ingressParent:
		return " ingress"
	}
	return fmt.Sprintf(" parent %x:%x", parent>>16, parent&0xffff)
}

func (s *space) sayMirred(c *conn, m *msg) (dev string) {
	within(m.attr1(unix.TCA_OPTIONS), func(typ uint16, data []byte) {
		if typ == mirredParms && len(data) >= 28 {
			dev = " dev " + s.nameAt(c, int(native32(data[24:])))
		}
	}, u32Act, 1, actOptions)
	return dev
}
