package nft

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/google/nftables"
)

// A legacyRule is what we need to know of a rule in iptables' legacy tables.
type legacyRule struct {
	in, out string // links that it names
	plain   bool   // it has no condition
	verdict int    // offset that it jumps to; below 0 one that ends, 1 if its target is an extension
}

// drop is the verdict of -j DROP, and of a policy that drops: -NF_DROP - 1.
const drop = -1

// A legacyChain is a chain of a legacy table.
type legacyChain struct {
	start int // offset of its first rule, by which others jump to it
	rules []legacyRule
}

// A layout says where things are in struct ipt_entry and struct ip6t_entry
// (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h).
type layout struct {
	names      string // file with the tables in use
	domain     int    // of the socket
	level      int    // of its options
	links      int    // offset of the link names, in and out, 16 bytes each, and their masks
	conditions int    // length of the conditions that an entry starts with
	offsets    int    // offset of target_offset and next_offset
	matches    int    // length of an entry without matches
}

func layoutOf(f nftables.TableFamily) layout {
	if f == nftables.TableFamilyIPv6 {
		return layout{"ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 64, 136, 140, 168}
	}
	return layout{"ip_tables_names", unix.AF_INET, unix.SOL_IP, 16, 84, 88, 112}
}

const (
	soGetInfo    = 64 // IPT_SO_GET_INFO and IP6T_SO_GET_INFO
	soGetEntries = 65
	tableName    = 32 // bytes of a table's name, XT_TABLE_MAXNAMELEN
	infoLen      = 84 // struct ipt_getinfo
	entriesHead  = 40 // of struct ipt_get_entries: name, size and padding
	targetHead   = 32 // struct xt_entry_target
)

// inUse reports whether the thread's namespace has the legacy table "filter".
// Asking for the table itself would make it.
func (l layout) inUse() bool {
	fd, err := unix.Open("/proc/thread-self/net/"+l.names, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // no legacy iptables in this kernel
	}
	defer unix.Close(fd)
	buf := make([]byte, 512)
	n, err := unix.Read(fd, buf)
	return err == nil && strings.Contains("\n"+string(buf[:n]), "\nfilter\n")
}

// read returns the chains of the table "filter", as the kernel has them: the
// commands take milliseconds to say the same.
func (l layout) read() (map[string]legacyChain, error) {
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("read legacy iptables: %w", err)
	}
	defer unix.Close(fd)
	for range 100 { // it may grow between the two questions
		info := make([]byte, infoLen)
		copy(info, "filter")
		if err := getsockopt(fd, l.level, soGetInfo, info); err != nil {
			return nil, fmt.Errorf("read legacy iptables: %w", err)
		}
		size := binary.NativeEndian.Uint32(info[infoLen-4:])
		entries := make([]byte, entriesHead+size)
		copy(entries, "filter")
		binary.NativeEndian.PutUint32(entries[tableName:], size)
		err = getsockopt(fd, l.level, soGetEntries, entries)
		if err == nil {
			return l.parse(entries[entriesHead:], info)
		}
		if err != unix.EAGAIN {
			break
		}
	}
	return nil, fmt.Errorf("read legacy iptables: %w", err)
}

func getsockopt(fd, level, option int, value []byte) error {
	size := uint32(len(value))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// parse reads the entries. A chain of the user starts with an entry whose
// target is ERROR and bears the chain's name; it lasts until the next. Where the
// kernel's own chains start is in info; their last rule is the policy.
func (l layout) parse(b, info []byte) (map[string]legacyChain, error) {
	chains := map[string]legacyChain{}
	hooks := map[int]string{}
	for i, name := range []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} {
		if binary.NativeEndian.Uint32(info[tableName:])&(1<<i) != 0 {
			hooks[int(binary.NativeEndian.Uint32(info[tableName+4+4*i:]))] = name
		}
	}
	name := ""
	for at := 0; at < len(b); {
		e := b[at:]
		if own, ok := hooks[at]; ok {
			name = own
			chains[name] = legacyChain{start: at}
		}
		if len(e) < l.offsets+4 {
			return nil, fmt.Errorf("read legacy iptables: %d bytes after the last entry", len(e))
		}
		target, next := int(binary.NativeEndian.Uint16(e[l.offsets:])), int(binary.NativeEndian.Uint16(e[l.offsets+2:]))
		if target+targetHead > next || next > len(e) {
			return nil, fmt.Errorf("read legacy iptables: an entry of %d bytes with its target at %d", next, target)
		}
		t := e[target:next]
		switch kind := unix.ByteSliceToString(t[2:31]); {
		case kind == "ERROR":
			name = unix.ByteSliceToString(t[targetHead:])
			chains[name] = legacyChain{start: at + next}
		case name != "":
			c := chains[name]
			c.rules = append(c.rules, l.rule(e[:target], kind, t[targetHead:]))
			chains[name] = c
		}
		at += next
	}
	return chains, nil
}

// rule reads one entry up to its target, and the target.
func (l layout) rule(e []byte, target string, data []byte) legacyRule {
	r := legacyRule{
		in: unix.ByteSliceToString(e[l.links : l.links+16]), out: unix.ByteSliceToString(e[l.links+16 : l.links+32]),
		plain: strings.Trim(string(e[:l.conditions]), "\x00") == "" && len(e) == l.matches, verdict: 1,
	}
	if target == "" && len(data) >= 4 { // the standard target
		r.verdict = int(int32(binary.NativeEndian.Uint32(data)))
	}
	return r
}

// lookLegacy is look for the legacy tables of the thread's namespace.
func (r ruleset) lookLegacy(bridge string) (v view, err error) {
	l := layoutOf(r.family)
	if !l.inUse() {
		return view{}, nil
	}
	chains, err := l.read()
	if err != nil {
		return view{}, err
	}
	ours, there := chains[ourChain]
	for _, door := range r.doors() {
		c, ok := chains[door]
		if !ok {
			continue
		}
		v.doors = append(v.doors, door)
		open := false
		for _, rule := range c.rules {
			open = open || there && rule.plain && rule.verdict == ours.start
		}
		if !open {
			v.closed = append(v.closed, door)
		}
	}
	v.ours = there
	for _, rule := range ours.rules {
		if rule.in == bridge || rule.out == bridge {
			v.rules++
		}
	}
	return v, nil
}
