package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plugin"
)

// publishOptions say how ports of endpoints are published: the keys of the
// reference portmap plugin and our own.
type publishOptions struct {
	snat, masqAll            bool
	addresses                []netip.Addr
	publishPolicy            string
	words4, words6           string
	conditions4, conditions6 []nft.Condition // what the words say

	backend, markChain string // of the reference plugin, without effect
	markBit            int
}

const respectInput = "respect-input"

func (o *publishOptions) flags(fs *flag.FlagSet) {
	fs.BoolVar(&o.snat, "snat", true, "`BOOL`: published ports can be reached from the container itself, its neighbours and the host's loopback too (default true)")
	fs.BoolVar(&o.masqAll, "masqAll", false, "`BOOL`: hide every client of a published port behind the host's address")
	fs.Func("publishAddress", "`LIST` of the host's addresses, at most one per family, such as 192.0.2.1,::1, that ports without one are published at (default all)", func(s string) (err error) {
		o.addresses, err = parseAddresses(s)
		return err
	})
	plugin.EnumVar(fs, &o.publishPolicy, "publish-policy", []string{"open", respectInput},
		"`WORD`: open, or respect-input to lead to containers only whom the host's own firewall lets in (default open)")
	fs.StringVar(&o.words4, "conditionsV4", "", "`LIST` of words that IPv4 packets to published ports must meet, as the nft command writes them ("+nftMatches+") or iptables ("+iptablesMatches+")")
	fs.StringVar(&o.words6, "conditionsV6", "", "`LIST` of words: the same for IPv6")
	plugin.EnumVar(fs, &o.backend, "backend", []string{"", "nftables", "iptables", "firewalld"}, "`WORD` of the reference portmap and firewall plugins, nftables, iptables or firewalld: accepted, rules are nftables either way")
	plugin.IntVar(fs, &o.markBit, "markMasqBit", 0, 31, "`BIT` of the reference portmap plugin: accepted, packets are not marked")
	fs.StringVar(&o.markChain, "externalSetMarkChain", "", "`NAME` of the reference portmap plugin: accepted, packets are not marked")
}

// What of a packet conditions can be about.
const (
	nftMatches      = "ip saddr, ip daddr, iifname, meta mark, th sport, !="
	iptablesMatches = "-s, -d, -i, --sport, -m mark --mark, !"
)

// readConditions reads the words of conditionsV4 and conditionsV6.
func (o *publishOptions) readConditions(place string) error {
	for _, c := range []struct {
		key, value string
		v6         bool
		parsed     *[]nft.Condition
	}{{"conditionsV4", o.words4, false, &o.conditions4}, {"conditionsV6", o.words6, true, &o.conditions6}} {
		if c.value == "" {
			continue
		}
		words, err := parseWords(c.value)
		if err == nil {
			*c.parsed, err = parseConditions(words, c.v6)
		}
		if err != nil {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: option %s=%q: %v; want words of %s, or %s", place, c.key, c.value, err, nftMatches, iptablesMatches))
		}
	}
	return nil
}

// parseAddresses reads a list of at most one address per family.
func parseAddresses(s string) (as []netip.Addr, err error) {
	for _, part := range strings.Split(s, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		if err != nil || a.Zone() != "" {
			return nil, errors.New("not an address")
		}
		a = a.Unmap()
		if len(as) > 1 || len(as) == 1 && as[0].Is4() == a.Is4() {
			return nil, errors.New("more than one of a family")
		}
		as = append(as, a)
	}
	return as, nil
}

// parseWords reads a list in JSON, or words with spaces between.
func parseWords(s string) (words []string, err error) {
	if !strings.HasPrefix(strings.TrimSpace(s), "[") {
		return strings.Fields(s), nil
	}
	if err := json.Unmarshal([]byte(s), &words); err != nil {
		return nil, fmt.Errorf("not a list of words: %w", err)
	}
	return words, nil
}
