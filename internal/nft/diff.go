package nft

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// wants are what a network or an endpoint needs in the tables. Each chain is
// compared by the comments of its rules, each element by its key, its value if
// it has one that is no verdict, and its comment.
type wants struct {
	chains   []chain
	elements []element
	set      *nftables.Set // that is there with the chains, if they need one and no element
}

func (n Network) wants() wants {
	w := wants{elements: n.elements()}
	for _, f := range n.families() {
		w.chains = append(w.chains, f.chains()...)
	}
	for _, p := range n.Masq {
		w.chains = append(w.chains, familyOf(p).masqChain(p))
	}
	return w
}

// wants returns what the endpoint needs beside what its network does. What
// endpoints share is wanted of the first that needs it; seen remembers that.
func (e Endpoint) wants(t site, n Network, seen map[string]bool) (wants, error) {
	w := wants{elements: slices.Concat(e.shared(n), e.publishingElements(n), e.elements(n), e.policyElements(t, n)), chains: t.ownHooks(e)}
	first := func(what string) bool {
		was := seen[what]
		seen[what] = true
		return !was
	}
	for _, ch := range e.portChains(n) {
		if first("chain " + familyName(ch.Table.Family) + " " + ch.Name) {
			w.chains = append(w.chains, ch)
		}
	}
	if e.MAC != nil && first("sender check") {
		w.chains = append(w.chains, bridgeChain())
	}
	if len(e.Policy) > 0 && first("policies") {
		w.chains = append(w.chains, t.policyChains()...)
		w.elements = append(w.elements, t.portedProtocols()...)
	}
	if len(e.Policy) > 0 && first(planName(e.Policy)) {
		plan, err := t.plannedPolicy(e.Policy)
		if err != nil {
			return w, err
		}
		w.chains = append(w.chains, plan.chains...)
		w.elements = append(w.elements, plan.boxes...)
	}
	return w, nil
}

// DiffNetwork returns how the tables differ from what EnsureNetwork left.
func (s *Snapshot) DiffNetwork(ctx context.Context, n Network) ([]bowline.Difference, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("compare firewall of network %q: %w", n.ID, err)
	}
	c, err := s.compare(n.wants())
	return c.found, err
}

// DiffEndpoint returns how the tables differ from what EnsureEndpoint left,
// apart from what DiffNetwork tells.
func (s *Snapshot) DiffEndpoint(ctx context.Context, n Network, e Endpoint) ([]bowline.Difference, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("compare firewall of endpoint %q: %w", e.ID, err)
	}
	w, err := e.wants(s.h.site(), n, s.seen)
	if err != nil {
		return nil, err
	}
	c, err := s.compare(w)
	return c.found, err
}

// A comparison is what differs, and what to do about it.
type comparison struct {
	found   []bowline.Difference
	missing []element
	wrong   []element // as they are, to delete
	setUp   bool      // chains or sets are missing, or not as they should be
	lost    map[nftables.TableFamily]bool

	families []nftables.TableFamily // of all that was compared
}

// add adds what differs, unless all of its table is gone and told.
func (c *comparison) add(family nftables.TableFamily, d bowline.Difference) {
	if !c.lost[family] {
		c.found = append(c.found, d)
	}
}

// lost returns the families in whose table there is nothing of w, nor any rule.
func (s *Snapshot) lost(w wants) (map[nftables.TableFamily]bool, error) {
	lost := map[nftables.TableFamily]bool{}
	for _, ch := range w.chains {
		if _, err := s.rulesOf(ch.Chain); err != nil {
			return nil, err
		}
		lost[ch.Table.Family] = len(s.rules[ch.Table.Family]) == 0
	}
	elements := w.elements
	if w.set != nil {
		elements = append(elements[:len(elements):len(elements)], element{set: w.set})
	}
	for _, e := range elements {
		if !lost[e.set.Table.Family] {
			continue
		}
		have, err := s.elementsOf(e.set)
		if err != nil {
			return nil, err
		}
		lost[e.set.Table.Family] = have == nil
	}
	maps.DeleteFunc(lost, func(_ nftables.TableFamily, is bool) bool { return !is })
	return lost, nil
}

func (s *Snapshot) compareOnce(w wants) (comparison, error) {
	lost, err := s.lost(w)
	if err != nil {
		return comparison{}, err
	}
	c := comparison{lost: lost, families: familiesOf(w.elements)}
	for _, ch := range w.chains {
		c.families = append(c.families, ch.Table.Family)
	}
	for _, f := range slices.Sorted(maps.Keys(lost)) {
		c.found = append(c.found, bowline.Difference{Place: "firewall", Key: "table", Want: familyName(f) + " " + Table})
	}
	for _, ch := range w.chains {
		have, err := s.rulesOf(ch.Chain)
		if err != nil {
			return c, err
		}
		if c.chain(ch, have) {
			c.setUp = true
		}
	}
	for i, want := range w.elements {
		if want.IntervalEnd { // goes with the one before
			continue
		}
		have, err := s.elementsOf(want.set)
		if err != nil {
			return c, err
		}
		c.setUp = c.setUp || have == nil
		if missing := c.element(want, have); missing && i+1 < len(w.elements) && w.elements[i+1].IntervalEnd {
			c.missing = append(c.missing, w.elements[i+1])
		}
	}
	return c, nil
}

// chain compares the rules of a chain and reports whether they differ.
func (c *comparison) chain(ch chain, have []string) bool {
	var want []string
	for _, r := range ch.rules {
		want = append(want, r.text)
	}
	if slices.Equal(have, want) {
		return false
	}
	c.add(ch.Table.Family, bowline.Difference{
		Place: fmt.Sprintf("chain %s of table %s %s", ch.Name, familyName(ch.Table.Family), ch.Table.Name),
		Key:   "rules", Have: strings.Join(have, "; "), Want: strings.Join(want, "; "),
	})
	return true
}

// element compares one and reports whether it is missing, or another.
func (c *comparison) element(want element, have map[string]held) bool {
	h, there := have[string(want.Key)]
	if there && h.comment == want.Comment && bytes.Equal(h.end, want.KeyEnd) && (want.Val == nil || bytes.Equal(h.value, want.Val)) {
		return false
	}
	d := bowline.Difference{Place: where(want.set), Key: "element", Want: elementText(want.set, want.Key, want.KeyEnd, want.Val, want.Comment)}
	if there {
		d.Have = elementText(want.set, want.Key, h.end, h.value, h.comment)
		old := want
		old.KeyEnd, old.Val, old.VerdictData = h.end, nil, nil
		c.wrong = append(c.wrong, old)
	}
	c.missing = append(c.missing, want)
	c.add(want.set.Table.Family, d)
	return true
}

// elementText shows an element nearly as the nft command does.
func elementText(s *nftables.Set, key, end, value []byte, comment string) string {
	text := keyText(s, key)
	if end != nil && !bytes.Equal(key, end) {
		text += " to " + keyText(s, end)
	}
	if value != nil {
		text += " : " + hex.EncodeToString(value)
	}
	if comment != "" {
		text += fmt.Sprintf(" %q", comment)
	}
	return text
}

// keyText shows a key by the types of its parts, each of which takes a multiple
// of four bytes.
func keyText(s *nftables.Set, key []byte) string {
	var parts []string
	for _, t := range strings.Split(s.KeyType.Name, " . ") {
		size := 4
		switch t {
		case "ifname", "ipv6_addr":
			size = 16
		case "ether_addr":
			size = 8
		}
		if len(key) < size {
			if len(key) == 0 {
				break
			}
			size = len(key)
		}
		parts = append(parts, partText(t, key[:size]))
		key = key[size:]
	}
	return strings.Join(parts, " . ")
}

func partText(datatype string, b []byte) string {
	switch datatype {
	case "ifname":
		return unix.ByteSliceToString(b)
	case "ipv4_addr", "ipv6_addr":
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.Unmap().String()
		}
	case "ether_addr":
		return net.HardwareAddr(b[:min(6, len(b))]).String()
	case "inet_proto":
		switch b[0] {
		case unix.IPPROTO_TCP:
			return "tcp"
		case unix.IPPROTO_UDP:
			return "udp"
		case unix.IPPROTO_SCTP:
			return "sctp"
		}
		return fmt.Sprint(b[0])
	case "inet_service":
		if len(b) >= 2 {
			return fmt.Sprint(int(b[0])<<8 | int(b[1]))
		}
	}
	return hex.EncodeToString(b)
}
