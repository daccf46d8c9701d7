package cluster

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
)

// Root is what all keys begin with. What is written below another version is
// not ours to read: a new layout gets a new version, and both stand until every
// node knows the new one.
const Root = "/bowline/v1/"

// A Kind is what a key is about. It is the part that follows [Root].
type Kind string

// The kinds of keys. Nothing about one container is in a range that all nodes
// watch, so that their load does not grow with the number of containers.
const (
	KindCluster     Kind = "cluster" // what holds for the whole cluster
	KindNode        Kind = "nodes"   // a node that joined; outlives its absence
	KindAlive       Kind = "alive"   // the same while it is up, under a lease
	KindFence       Kind = "fence"   // the least epoch of a node that still counts
	KindNetwork     Kind = "nets"
	KindNetworkName Kind = "netname" // a tenant's name for a network, once only
	KindVNI         Kind = "vni"     // which network has a VNI, once only
	KindPool        Kind = "pool"    // which network has a prefix of an address space, once only
	KindBlock       Kind = "blk"     // which node has a block; without a lease, for owning is not being alive
	KindAddress     Kind = "ip"      // an address that is not where its block is
	KindSlice       Kind = "slice"   // the endpoints of a node on a network, for names only
	KindService     Kind = "svc"
	KindPolicy      Kind = "policy"
)

// A Key names one entry by the fields that its kind has; the others are zero.
// Nodes and networks are IDs, names are what people gave.
type Key struct {
	Kind                  Kind
	Tenant, Network, Node string
	Space, Name           string
	VNI                   uint32
	Prefix                netip.Prefix
	Addr                  netip.Addr
}

// A field is a part of a key's text. A prefix is the last part, for it holds a
// slash.
type field byte

const (
	tenant field = iota
	network
	node
	space
	name
	vni
	prefix
	addr
)

// layout returns the parts that follow the kind, and false for a kind that is
// none.
func (k Kind) layout() ([]field, bool) {
	switch k {
	case KindCluster:
		return nil, true
	case KindNode, KindAlive, KindFence:
		return []field{node}, true
	case KindNetwork:
		return []field{network}, true
	case KindNetworkName, KindPolicy:
		return []field{tenant, name}, true
	case KindVNI:
		return []field{vni}, true
	case KindPool:
		return []field{space, prefix}, true
	case KindBlock:
		return []field{network, prefix}, true
	case KindAddress:
		return []field{network, addr}, true
	case KindSlice:
		return []field{network, node}, true
	case KindService:
		return []field{network, name}, true
	}
	return nil, false
}

// String returns the key's text. A field that is missing or cannot be is an
// empty part, which [ParseKey] refuses.
func (k Key) String() string {
	text := Root + string(k.Kind)
	fields, _ := k.Kind.layout()
	for _, f := range fields {
		text += "/" + k.text(f)
	}
	return text
}

// Below returns the range of all keys of k's kind that have those of its first
// fields that are set: all blocks of a network, all nodes.
func (k Key) Below() string {
	text := Root + string(k.Kind) + "/"
	fields, _ := k.Kind.layout()
	for _, f := range fields {
		part := k.text(f)
		if part == "" {
			break
		}
		text += part + "/"
	}
	return text
}

func (k Key) text(f field) string {
	switch f {
	case tenant:
		return url.PathEscape(k.Tenant)
	case network:
		return url.PathEscape(k.Network)
	case node:
		return url.PathEscape(k.Node)
	case space:
		return url.PathEscape(k.Space)
	case name:
		return url.PathEscape(k.Name)
	case vni:
		if k.VNI != 0 && k.VNI < 1<<24 {
			return strconv.FormatUint(uint64(k.VNI), 10)
		}
	case prefix:
		if k.Prefix.IsValid() && k.Prefix == k.Prefix.Masked() && !k.Prefix.Addr().Is4In6() {
			return k.Prefix.String()
		}
	case addr:
		if k.Addr.IsValid() && k.Addr.Zone() == "" && !k.Addr.Is4In6() {
			return k.Addr.String()
		}
	}
	return ""
}

// set reads part as the field f. What it cannot read stays zero.
func (k *Key) set(f field, part string) {
	word, _ := url.PathUnescape(part)
	switch f {
	case tenant:
		k.Tenant = word
	case network:
		k.Network = word
	case node:
		k.Node = word
	case space:
		k.Space = word
	case name:
		k.Name = word
	case vni:
		n, _ := strconv.ParseUint(part, 10, 24)
		k.VNI = uint32(n)
	case prefix:
		k.Prefix, _ = netip.ParsePrefix(part)
	case addr:
		k.Addr, _ = netip.ParseAddr(part)
	}
}

// ParseKey reads what [Key.String] writes, and nothing else: each entry has one
// text, so that no two keys can mean the same thing.
func ParseKey(text string) (Key, error) {
	rest, ok := strings.CutPrefix(text, Root)
	if !ok {
		return Key{}, fmt.Errorf("%w: key %q: want it below %s", bowline.ErrInvalid, text, Root)
	}
	kind, rest, more := strings.Cut(rest, "/")
	k := Key{Kind: Kind(kind)}
	fields, known := k.Kind.layout()
	if !known || more != (len(fields) > 0) {
		return Key{}, fmt.Errorf("%w: key %q: want a kind that this version knows, and its fields", bowline.ErrInvalid, text)
	}
	parts := strings.SplitN(rest, "/", len(fields))
	for i, f := range fields[:min(len(parts), len(fields))] {
		k.set(f, parts[i])
	}
	if k.String() != text || strings.Contains(text+"/", "//") {
		return Key{}, fmt.Errorf("%w: key %q: want fields as in %s", bowline.ErrInvalid, text, k.Kind.example())
	}
	return k, nil
}

// example returns a key of the kind, for messages.
func (k Kind) example() Key {
	return Key{
		Kind: k, Tenant: "default", Network: "n1", Node: "h1", Space: "default", Name: "blue", VNI: 4096,
		Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 2, 0}), 24), Addr: netip.AddrFrom4([4]byte{10, 1, 2, 3}),
	}
}
