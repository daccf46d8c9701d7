package bowline

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// policyOfJSON reads one rule or a list of them; a rule is an object, or text.
func policyOfJSON(place, value string) ([]PolicyRule, error) {
	list := []json.RawMessage{}
	err := json.Unmarshal([]byte(value), &list)
	if value[0] == '{' {
		list, err = []json.RawMessage{json.RawMessage(value)}, nil
	}
	if err != nil {
		return nil, Wrong(ErrInvalid, fmt.Sprintf("%s: policy: %v: want a list of rules", place, err))
	}
	var rules []PolicyRule
	for _, raw := range list {
		var text string
		if json.Unmarshal(raw, &text) == nil && raw[0] == '"' {
			some, err := policyOfText(place, text)
			if err != nil {
				return nil, err
			}
			rules = append(rules, some...)
			continue
		}
		r, err := policyPlace{place, len(rules), ""}.ruleOfJSON(raw)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (p policyPlace) ruleOfJSON(raw json.RawMessage) (r PolicyRule, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return r, p.wrong("rule", string(raw), `an object such as {"action": "deny", "direction": "egress"}`)
	}
	keys := []string{"action", "direction", "peers", "network", "protocol", "ports"}
	for _, k := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(keys, k) {
			want := "one of the keys " + strings.Join(keys, ", ")
			if near := Nearest(k, keys); near != "" {
				want = "a key that there is; did you mean " + near + "?"
			}
			return r, p.wrong(k, string(object[k]), want)
		}
	}
	if r.Action, err = p.wordOfJSON(object, "action", policyActions[:]); err != nil {
		return r, err
	}
	if r.Direction, err = p.wordOfJSON(object, "direction", policyDirections[:]); err != nil {
		return r, err
	}
	if raw := object["protocol"]; len(raw) > 0 && string(raw) != `""` {
		if r.Protocol, err = p.wordOfJSON(object, "protocol", policyProtocols[:]); err != nil {
			return r, err
		}
	}
	if raw, ok := object["network"]; ok && (json.Unmarshal(raw, &r.Network) != nil || strings.ContainsAny(r.Network, ";|") || len(strings.Fields(r.Network)) != 1) {
		return r, p.wrong("network", string(raw), "the name of a network")
	}
	for _, k := range []string{"peers", "ports"} {
		// An empty list looks like nobody, and would mean anybody.
		if raw, ok := object[k]; ok && len(listOfJSON(raw)) == 0 {
			return r, p.wrong(k, string(raw), "at least one, or no such key")
		}
	}
	for _, raw := range listOfJSON(object["peers"]) {
		var s string
		_ = json.Unmarshal(raw, &s) // what is no string is no peer either
		peer, err := p.peer(s)
		if err != nil {
			return r, p.wrong("peers", strings.Trim(string(raw), `"`), "an address or a prefix without host bits, such as 192.0.2.7, 10.0.0.0/8 or fd00::/8")
		}
		r.Peers = append(r.Peers, peer)
	}
	for _, raw := range listOfJSON(object["ports"]) {
		ports, err := p.portsOfJSON(raw)
		if err != nil {
			return r, err
		}
		r.Ports = append(r.Ports, ports)
	}
	return r, p.check(r)
}

func (p policyPlace) wordOfJSON(object map[string]json.RawMessage, key string, words []string) (string, error) {
	var s string
	if raw, ok := object[key]; ok && json.Unmarshal(raw, &s) != nil {
		s = string(raw)
	}
	return p.oneOf(key, s, words)
}

// portsOfJSON reads 80, "8000-8099" or {"first": 8000, "last": 8099}.
func (p policyPlace) portsOfJSON(raw json.RawMessage) (PortRange, error) {
	var pair struct{ First, Last *uint16 }
	if raw[0] == '{' && json.Unmarshal(raw, &pair) == nil && pair.First != nil && pair.Last != nil {
		return p.ports(fmt.Sprintf("%d-%d", *pair.First, *pair.Last))
	}
	return p.ports(strings.Trim(string(raw), `"`))
}

// listOfJSON returns the elements of a list, or what is none as its only
// element.
func listOfJSON(raw json.RawMessage) []json.RawMessage {
	var list []json.RawMessage
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil
	case json.Unmarshal(raw, &list) == nil:
		return list
	}
	return []json.RawMessage{raw}
}
