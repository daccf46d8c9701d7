package bowline

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MaxPolicyRules is the most rules that a policy can have.
const MaxPolicyRules = 4096

// The words of a policy.
var (
	policyActions    = [...]string{"allow", "deny"}
	policyDirections = [...]string{"ingress", "egress"}
	policyProtocols  = [...]string{"tcp", "udp", "sctp", "icmp"}
)

// ParsePolicy reads rules: as JSON if value begins with a bracket or brace, else
// as text, one rule after the other, with a semicolon, a vertical bar or a new
// line between them:
//
//	allow|deny ingress [tcp|udp|sctp|icmp [PORTS]] [from PEERS]
//	allow|deny egress  [tcp|udp|sctp|icmp [PORTS]] [to PEERS]
//
// PORTS are such as 80,443,8000-8099; PEERS are addresses and prefixes with
// commas between them, or "network NAME". No value, no rule.
//
// The error wraps [ErrInvalid] and says where, which rule, which key, what was
// given and what would be right; place is, for example, `network "web"`.
func ParsePolicy(place, value string) ([]PolicyRule, error) {
	value = strings.TrimSpace(value)
	var rules []PolicyRule
	var err error
	if strings.HasPrefix(value, "[") || strings.HasPrefix(value, "{") {
		rules, err = policyOfJSON(place, value)
	} else {
		rules, err = policyOfText(place, value)
	}
	if err != nil {
		return nil, err
	}
	if len(rules) > MaxPolicyRules {
		return nil, Wrong(ErrInvalid, fmt.Sprintf("%s: policy: %d rules: want at most %d", place, len(rules), MaxPolicyRules))
	}
	return rules, nil
}

// A policyPlace says which rule is wrong.
type policyPlace struct {
	place string
	rule  int    // from 0
	text  string // as given; may be empty
}

func (p policyPlace) wrong(key, value, want string) error {
	shown := ""
	if p.text != "" {
		shown = fmt.Sprintf(" %q", p.text)
	}
	return Wrong(ErrInvalid, fmt.Sprintf("%s: policy: rule %d%s: %s=%q: want %s", p.place, p.rule+1, shown, key, value, want))
}

// oneOf returns the word in lower case, or an error that lists the words.
func (p policyPlace) oneOf(key, value string, words []string) (string, error) {
	word := strings.ToLower(value)
	if slices.Contains(words, word) {
		return word, nil
	}
	want := strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
	if near := Nearest(value, words); near != "" {
		want += "; did you mean " + near + "?"
	}
	return "", p.wrong(key, value, want)
}

// peer reads an address or a prefix.
func (p policyPlace) peer(s string) (netip.Prefix, error) {
	const want = "an address or a prefix such as 192.0.2.7, 10.0.0.0/8 or fd00::/8"
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, p.wrong("peers", s, want)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, p.wrong("peers", s, prefix.Masked().String()+", without host bits")
	}
	return prefix, nil
}

// ports reads one port or a row of them.
func (p policyPlace) ports(s string) (PortRange, error) {
	first, last, row := strings.Cut(s, "-")
	if !row {
		last = first
	}
	lo, err := strconv.ParseUint(first, 10, 16)
	hi, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || lo == 0 || hi < lo {
		return PortRange{}, p.wrong("ports", s, "1 to 65535, or a row of them such as 8000-8099")
	}
	return PortRange{uint16(lo), uint16(hi)}, nil
}

// check tells what does not go together.
func (p policyPlace) check(r PolicyRule) error {
	if len(r.Ports) > 0 && (r.Protocol == "" || r.Protocol == "icmp") {
		return p.wrong("protocol", r.Protocol, "tcp, udp or sctp, for the rule names ports")
	}
	if len(r.Peers) > 0 && r.Network != "" {
		return p.wrong("network", r.Network, "peers or a network, not both")
	}
	return nil
}

// String returns r as text that [ParsePolicy] reads.
func (r PolicyRule) String() string {
	words := []string{r.Action, r.Direction}
	if r.Protocol != "" {
		words = append(words, r.Protocol)
	}
	var parts []string
	for _, p := range r.Ports {
		parts = append(parts, p.String())
	}
	if len(parts) > 0 {
		words = append(words, strings.Join(parts, ","))
	}
	parts = nil
	for _, p := range r.Peers {
		if p.IsSingleIP() {
			parts = append(parts, p.Addr().String())
		} else {
			parts = append(parts, p.String())
		}
	}
	towards := "from"
	if r.Direction == "egress" {
		towards = "to"
	}
	switch {
	case r.Network != "":
		words = append(words, towards, "network", r.Network)
	case len(parts) > 0:
		words = append(words, towards, strings.Join(parts, ","))
	}
	return strings.Join(words, " ")
}

// String returns r as text: 80 or 8000-8099.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}
