package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What the messages of a transaction ask for, in the words of nft.

// fields are attributes by type; of several of a type the last.
type fields map[uint16][]byte

// attributes reads those of a message, behind struct nfgenmsg.
func attributes(data []byte) fields { return readFields(data[min(4, len(data)):]) }

func readFields(b []byte) fields {
	f := fields{}
	eachField(b, func(typ uint16, data []byte) { f[typ] = data })
	return f
}

func eachField(b []byte, do func(typ uint16, data []byte)) {
	for len(b) >= unix.NLA_HDRLEN {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.NLA_HDRLEN || n > len(b) {
			return
		}
		do(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.NLA_HDRLEN:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

func (f fields) text(typ uint16) string { return strings.TrimRight(string(f[typ]), "\x00") }

func (f fields) u32(typ uint16) uint32 {
	if b := f[typ]; len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// setNameOf is the set that a message is about: the attributes of sets and of
// their elements name it alike.
func setNameOf(m netlink.Message) setName {
	return setName{nftables.TableFamily(m.Data[0]), attributes(m.Data).text(unix.NFTA_SET_ELEM_LIST_SET)}
}

// say returns what the message asks for.
func (d *dry) say(m netlink.Message) string {
	a, family := attributes(m.Data), familyName(nftables.TableFamily(m.Data[0]))
	name := func(attr uint16) string { return family + " " + a.text(1) + " " + a.text(attr) } // NFTA_*_TABLE is 1
	switch uint16(m.Header.Type) & 0xff {
	case unix.NFT_MSG_NEWTABLE:
		return "add table " + family + " " + a.text(unix.NFTA_TABLE_NAME)
	case unix.NFT_MSG_DELTABLE:
		return "delete table " + family + " " + a.text(unix.NFTA_TABLE_NAME)
	case unix.NFT_MSG_NEWSET:
		return "add " + sayType(family+" "+a.text(unix.NFTA_SET_TABLE)+" "+a.text(unix.NFTA_SET_NAME), a)
	case unix.NFT_MSG_DELSET:
		return "delete set " + name(unix.NFTA_SET_NAME)
	case unix.NFT_MSG_NEWCHAIN:
		return "add chain " + name(unix.NFTA_CHAIN_NAME) + sayHook(nftables.TableFamily(m.Data[0]), a)
	case unix.NFT_MSG_DELCHAIN:
		return "delete chain " + name(unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE:
		text, _ := userdata.GetString(a[unix.NFTA_RULE_USERDATA], userdata.TypeComment)
		return "add rule " + name(unix.NFTA_RULE_CHAIN) + " " + text
	case unix.NFT_MSG_DELRULE:
		if a[unix.NFTA_RULE_HANDLE] == nil {
			return "flush chain " + name(unix.NFTA_RULE_CHAIN)
		}
		return "delete rule " + name(unix.NFTA_RULE_CHAIN)
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		verb := "add element "
		if uint16(m.Header.Type)&0xff == unix.NFT_MSG_DELSETELEM {
			verb = "delete element "
		}
		t := d.sets[setNameOf(m)]
		var es []string
		all := elementsOf(m)
		for i, e := range all {
			if e.end() { // told with the start
				continue
			}
			if i+1 < len(all) && all[i+1].end() {
				es = append(es, sayRange(e.sayKey(t), sayValue(t.key, before(all[i+1].value(unix.NFTA_SET_ELEM_KEY))))+e.sayComment()+e.sayData(t))
				continue
			}
			es = append(es, e.sayKey(t)+e.sayComment()+e.sayData(t))
		}
		return verb + name(unix.NFTA_SET_ELEM_LIST_SET) + " { " + strings.Join(es, ", ") + " }"
	}
	return fmt.Sprintf("nftables message of type %d", m.Header.Type)
}

func sayType(name string, a fields) string {
	flags := a.u32(unix.NFTA_SET_FLAGS)
	text := "set " + name + " { type " + typeName(a.u32(unix.NFTA_SET_KEY_TYPE))
	if flags&unix.NFT_SET_MAP != 0 {
		text = "map " + strings.TrimPrefix(text, "set ") + " : " + typeName(a.u32(unix.NFTA_SET_DATA_TYPE))
	}
	text += ";"
	var words []string
	for _, f := range []struct {
		bit  uint32
		word string
	}{{unix.NFT_SET_INTERVAL, "interval"}, {unix.NFT_SET_TIMEOUT, "timeout"}, {unix.NFT_SET_EVAL, "dynamic"}} {
		if flags&f.bit != 0 {
			words = append(words, f.word)
		}
	}
	if len(words) > 0 {
		text += " flags " + strings.Join(words, ", ") + ";"
	}
	if b := a[unix.NFTA_SET_TIMEOUT]; len(b) == 8 {
		text += fmt.Sprintf(" timeout %ds;", binary.BigEndian.Uint64(b)/1000)
	}
	if a[nftables.NFTA_SET_ELEM_EXPRESSIONS] != nil { // NFTA_SET_EXPR has the same number
		text += " counter;"
	}
	if size := readFields(a[unix.NFTA_SET_DESC]).u32(unix.NFTA_SET_DESC_SIZE); size != 0 {
		text += fmt.Sprintf(" size %d;", size)
	}
	return text + " }"
}

func sayHook(family nftables.TableFamily, a fields) string {
	hook := readFields(a[unix.NFTA_CHAIN_HOOK])
	if len(hook) == 0 {
		return ""
	}
	policy := "accept"
	if a.u32(unix.NFTA_CHAIN_POLICY) == 0 && a[unix.NFTA_CHAIN_POLICY] != nil {
		policy = "drop"
	}
	hooks := []string{"prerouting", "input", "forward", "output", "postrouting"}
	if family == nftables.TableFamilyNetdev {
		hooks = []string{"ingress", "egress"}
	}
	at := fmt.Sprint(hook.u32(unix.NFTA_HOOK_HOOKNUM))
	if i := int(hook.u32(unix.NFTA_HOOK_HOOKNUM)); i < len(hooks) {
		at = hooks[i]
	}
	if device := hook.text(unix.NFTA_HOOK_DEV); device != "" {
		at += fmt.Sprintf(" device %q", device)
	}
	return fmt.Sprintf(" { type %s hook %s priority %d; policy %s; }", a.text(unix.NFTA_CHAIN_TYPE), at, int32(hook.u32(unix.NFTA_HOOK_PRIORITY)), policy)
}

// types are the parts of a concatenation, 6 bits each, the last lowest.
func types(magic uint32) (parts []nftables.SetDatatype) {
	for ; magic != 0; magic >>= nftables.SetConcatTypeBits {
		parts = append([]nftables.SetDatatype{datatype(magic & nftables.SetConcatTypeMask)}, parts...)
	}
	return parts
}

func datatype(magic uint32) nftables.SetDatatype {
	for _, t := range []nftables.SetDatatype{
		nftables.TypeIPAddr, nftables.TypeIP6Addr, nftables.TypeEtherAddr, nftables.TypeEtherType, nftables.TypeInetProto,
		nftables.TypeInetService, nftables.TypeMark, nftables.TypeIFName, nftables.TypeInteger,
	} {
		if t.GetNFTMagic() == magic {
			return t
		}
	}
	return nftables.SetDatatype{Name: fmt.Sprintf("type%d", magic), Bytes: 4}
}

// verdictType is what the kernel has for a map's data that are verdicts.
const verdictType = 0xffffff00

func typeName(magic uint32) string {
	if magic == verdictType || magic == nftables.TypeVerdict.GetNFTMagic() {
		return "verdict"
	}
	var names []string
	for _, t := range types(magic) {
		names = append(names, t.Name)
	}
	return strings.Join(names, " . ")
}

// sayValue writes the bytes of a key or value of that type.
func sayValue(magic uint32, b []byte) string {
	var words []string
	for _, t := range types(magic) {
		size := (int(t.Bytes) + 3) &^ 3
		if size == 0 || size > len(b) {
			break
		}
		words = append(words, sayPart(t, b[:t.Bytes]))
		b = b[size:]
	}
	if len(words) == 0 {
		return fmt.Sprintf("0x%x", b)
	}
	return strings.Join(words, " . ")
}

func sayPart(t nftables.SetDatatype, b []byte) string {
	switch t.Name {
	case nftables.TypeIPAddr.Name, nftables.TypeIP6Addr.Name:
		a, _ := netip.AddrFromSlice(b)
		return a.String()
	case nftables.TypeEtherAddr.Name:
		return net.HardwareAddr(b).String()
	case nftables.TypeInetService.Name:
		return fmt.Sprint(binary.BigEndian.Uint16(b))
	case nftables.TypeInetProto.Name:
		if name := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "ipv6-icmp"}[b[0]]; name != "" {
			return name
		}
		return fmt.Sprint(b[0])
	case nftables.TypeIFName.Name:
		name, _, _ := bytes.Cut(b, []byte{0})
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("0x%x", b)
}
