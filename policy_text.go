package bowline

import (
	"slices"
	"strings"
)

// policyOfText reads rules as people write them.
func policyOfText(place, value string) ([]PolicyRule, error) {
	var rules []PolicyRule
	for _, text := range strings.FieldsFunc(value, func(r rune) bool { return r == ';' || r == '|' || r == '\n' }) {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		r, err := policyPlace{place, len(rules), text}.ruleOfText()
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (p policyPlace) ruleOfText() (r PolicyRule, err error) {
	words := policyWords(p.text)
	if r.Action, err = p.oneOf("action", words[0], policyActions[:]); err != nil {
		return r, err
	}
	if len(words) < 2 {
		words = append(words, "")
	}
	if r.Direction, err = p.oneOf("direction", words[1], policyDirections[:]); err != nil {
		return r, err
	}
	towards := "from"
	if r.Direction == "egress" {
		towards = "to"
	}
	for rest := words[2:]; len(rest) > 0; {
		word := strings.ToLower(rest[0])
		switch {
		case slices.Contains(policyProtocols[:], word):
			if r.Protocol != "" {
				return r, p.wrong("protocol", word, "one protocol, and another rule for another one")
			}
			r.Protocol, rest = word, rest[1:]
		case word[0] >= '0' && word[0] <= '9' && r.Ports == nil:
			for s := range strings.SplitSeq(word, ",") {
				ports, err := p.ports(s)
				if err != nil {
					return r, err
				}
				r.Ports = append(r.Ports, ports)
			}
			rest = rest[1:]
		case word == towards && r.Peers == nil && r.Network == "":
			if rest, err = p.peersOfText(&r, rest[1:]); err != nil {
				return r, err
			}
		case word == "from" || word == "to":
			return r, p.wrong("peers", rest[0], "one \""+towards+"\" in a rule about "+r.Direction)
		default:
			known := append(policyProtocols[:], towards)
			want := "tcp, udp, sctp, icmp, ports after one of these, or \"" + towards + "\" and peers"
			if near := Nearest(word, known); near != "" {
				want += "; did you mean " + near + "?"
			}
			return r, p.wrong("word", rest[0], want)
		}
	}
	return r, p.check(r)
}

// peersOfText reads what follows "from" or "to" and returns what is after it.
func (p policyPlace) peersOfText(r *PolicyRule, words []string) (rest []string, err error) {
	if len(words) == 0 {
		words = []string{""}
	}
	if strings.EqualFold(words[0], "network") {
		if len(words) < 2 {
			return nil, p.wrong("network", "", "the name of a network")
		}
		r.Network = words[1]
		return words[2:], nil
	}
	for s := range strings.SplitSeq(words[0], ",") {
		peer, err := p.peer(s)
		if err != nil {
			return nil, err
		}
		r.Peers = append(r.Peers, peer)
	}
	return words[1:], nil
}

// policyWords splits a rule at spaces, but not after or before a comma.
func policyWords(text string) []string {
	var words []string
	glue := false
	for _, w := range strings.Fields(text) {
		if n := len(words); n > 0 && (glue || w[0] == ',') {
			words[n-1] += w
		} else {
			words = append(words, w)
		}
		glue = strings.HasSuffix(w, ",")
	}
	return words
}
