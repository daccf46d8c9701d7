package bowline_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

func prefixes(ss ...string) (ps []netip.Prefix) {
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	type rule = bowline.PolicyRule
	web := []rule{
		{Action: "deny", Direction: "egress", Peers: prefixes("10.0.0.0/8")},
		{Action: "allow", Direction: "ingress", Protocol: "tcp", Ports: []bowline.PortRange{{80, 80}, {443, 443}}, Peers: prefixes("192.0.2.0/24", "fd00::7/128")},
		{Action: "deny", Direction: "ingress"},
	}
	tests := []struct {
		name, value string
		want        []rule
	}{
		{"none", "", nil},
		{"separators only", " ; ;\n|", nil},
		{"text", "deny egress to 10.0.0.0/8; allow ingress tcp 80,443 from 192.0.2.0/24,fd00::7; deny ingress", web},
		{"another order, case and separators", "DENY Egress TO 10.0.0.0/8|allow ingress FROM 192.0.2.0/24 , fd00::7 TCP 80, 443\n\ndeny ingress;", web},
		{"JSON", `[
			{"action": "deny", "direction": "egress", "peers": "10.0.0.0/8"},
			{"action": "allow", "direction": "ingress", "protocol": "TCP", "ports": [80, "443"], "peers": ["192.0.2.0/24", "fd00::7"]},
			{"action": "deny", "direction": "ingress"}]`, web},
		{"JSON of text", `["deny egress to 10.0.0.0/8", {"action":"allow","direction":"ingress","protocol":"tcp","ports":[{"first":80,"last":80},443],"peers":["192.0.2.0/24","fd00::7/128"]}, "deny ingress"]`, web},
		{"one object", `{"action":"deny","direction":"egress","protocol":""}`, []rule{{Action: "deny", Direction: "egress"}}},
		{"rows of ports", "allow egress udp 1-65535,53", []rule{{Action: "allow", Direction: "egress", Protocol: "udp", Ports: []bowline.PortRange{{1, 65535}, {53, 53}}}}},
		{"network", "allow ingress icmp from network web.1; deny egress to network db", []rule{
			{Action: "allow", Direction: "ingress", Protocol: "icmp", Network: "web.1"}, {Action: "deny", Direction: "egress", Network: "db"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := bowline.ParsePolicy("here", tt.value)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("ParsePolicy:\n got %v, %v\nwant %v", got, err, tt.want)
			}
		})
	}
}

func TestParsePolicyWrong(t *testing.T) {
	t.Parallel()
	tests := []struct{ value, want string }{
		{"alow ingress", `rule 1 "alow ingress": action="alow": want allow or deny; did you mean allow?`},
		{"deny egress; deny", `rule 2 "deny": direction="": want ingress or egress`},
		{"deny egres", `rule 1 "deny egres": direction="egres": want ingress or egress; did you mean egress?`},
		{"deny egress from 10.0.0.0/8", `rule 1 "deny egress from 10.0.0.0/8": peers="from": want one "to" in a rule about egress`},
		{"deny egress to 10.0.0.0/8 to 11.0.0.0/8", `rule 1 "deny egress to 10.0.0.0/8 to 11.0.0.0/8": peers="to": want one "to" in a rule about egress`},
		{"deny egress to 10.0.0.1/8", `rule 1 "deny egress to 10.0.0.1/8": peers="10.0.0.1/8": want 10.0.0.0/8, without host bits`},
		{"deny egress to ten", `rule 1 "deny egress to ten": peers="ten": want an address or a prefix such as 192.0.2.7, 10.0.0.0/8 or fd00::/8`},
		{"deny egress to ::ffff:10.0.0.1", `rule 1 "deny egress to ::ffff:10.0.0.1": peers="::ffff:10.0.0.1": want an address or a prefix such as 192.0.2.7, 10.0.0.0/8 or fd00::/8`},
		{"deny egress to fe80::1%eth0", `rule 1 "deny egress to fe80::1%eth0": peers="fe80::1%eth0": want an address or a prefix such as 192.0.2.7, 10.0.0.0/8 or fd00::/8`},
		{"deny egress to", `rule 1 "deny egress to": peers="": want an address or a prefix such as 192.0.2.7, 10.0.0.0/8 or fd00::/8`},
		{"deny egress to network", `rule 1 "deny egress to network": network="": want the name of a network`},
		{"deny egress 80", `rule 1 "deny egress 80": protocol="": want tcp, udp or sctp, for the rule names ports`},
		{"deny egress icmp 8", `rule 1 "deny egress icmp 8": protocol="icmp": want tcp, udp or sctp, for the rule names ports`},
		{"deny egress tcp udp", `rule 1 "deny egress tcp udp": protocol="udp": want one protocol, and another rule for another one`},
		{"deny egress tcp 0", `rule 1 "deny egress tcp 0": ports="0": want 1 to 65535, or a row of them such as 8000-8099`},
		{"deny egress tcp 90-80", `rule 1 "deny egress tcp 90-80": ports="90-80": want 1 to 65535, or a row of them such as 8000-8099`},
		{"deny egress tcp 80,", `rule 1 "deny egress tcp 80,": ports="": want 1 to 65535, or a row of them such as 8000-8099`},
		{"deny egress tpc 80", `rule 1 "deny egress tpc 80": word="tpc": want tcp, udp, sctp, icmp, ports after one of these, or "to" and peers; did you mean tcp?`},
		{`[`, `unexpected end of JSON input: want a list of rules`},
		{`[7]`, `rule 1: rule="7": want an object such as {"action": "deny", "direction": "egress"}`},
		{`[{"action":"deny"}]`, `rule 1: direction="": want ingress or egress`},
		{`[{"action":"deny","direction":"egress","peer":"10.0.0.0/8"}]`, `rule 1: peer="\"10.0.0.0/8\"": want a key that there is; did you mean peers?`},
		{`[{"action":"deny","direction":"egress","peers":[]}]`, `rule 1: peers="[]": want at least one, or no such key`},
		{`[{"action":"deny","direction":"egress","peers":[10]}]`, `rule 1: peers="10": want an address or a prefix without host bits, such as 192.0.2.7, 10.0.0.0/8 or fd00::/8`},
		{`[{"action":"deny","direction":"egress","peers":"::/0","network":"a"}]`, `rule 1: network="a": want peers or a network, not both`},
		{`[{"action":"deny","direction":"egress","network":"a b"}]`, `rule 1: network="\"a b\"": want the name of a network`},
		{`[{"action":"deny","direction":"egress","protocol":"tcp","ports":[65536]}]`, `rule 1: ports="65536": want 1 to 65535, or a row of them such as 8000-8099`},
		{strings.Repeat("deny egress;", bowline.MaxPolicyRules+1), `4097 rules: want at most 4096`},
	}
	for _, tt := range tests {
		t.Run(tt.value[:min(len(tt.value), 40)], func(t *testing.T) {
			t.Parallel()
			_, err := bowline.ParsePolicy(`network "web"`, tt.value)
			if want := `network "web": policy: ` + tt.want; fmt.Sprint(err) != want || !errors.Is(err, bowline.ErrInvalid) {
				t.Errorf("ParsePolicy:\n got %v\nwant %s", err, want)
			}
		})
	}
}

// What a rule prints is the rule again.
func FuzzParsePolicy(f *testing.F) {
	f.Add("deny egress to 10.0.0.0/8; allow ingress tcp 80,443 from 192.0.2.0/24; deny ingress")
	f.Add("allow ingress sctp 5-7 , 9 from network web|deny egress icmp")
	f.Add(`[{"action":"allow","direction":"ingress","protocol":"tcp","ports":[80,"81-90",{"first":1,"last":2}],"peers":["::/0"]},"deny ingress"]`)
	f.Add(`{"action":"deny","direction":"egress","network":"a"}`)
	f.Fuzz(func(t *testing.T, value string) {
		rules, err := bowline.ParsePolicy("here", value)
		if err != nil {
			if !errors.Is(err, bowline.ErrInvalid) {
				t.Errorf("%q: %v is not ErrInvalid", value, err)
			}
			return
		}
		var texts []string
		for _, r := range rules {
			texts = append(texts, r.String())
		}
		again, err := bowline.ParsePolicy("here", strings.Join(texts, ";"))
		if err != nil || !reflect.DeepEqual(rules, again) {
			t.Errorf("%q: %v became %v, %v", value, rules, again, err)
		}
	})
}
