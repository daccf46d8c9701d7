package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/nft"
)

// parseConditions reads what the reference portmap plugin passes to its backend:
// matches as the nft command has them, or iptables.
func parseConditions(words []string, v6 bool) (cs []nft.Condition, err error) {
	for len(words) > 0 {
		not := words[0] == "!"
		if not {
			words = words[1:]
		}
		c, rest, err := parseCondition(words, v6)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.Not = c.Not != not
			cs = append(cs, *c)
		} else if not {
			return nil, fmt.Errorf("! before %q", strings.Join(words[:len(words)-len(rest)], " "))
		}
		words = rest
	}
	return cs, nil
}

// parseCondition reads one match and returns the words after it. The condition
// is nil for words that only name a module.
func parseCondition(words []string, v6 bool) (c *nft.Condition, rest []string, err error) {
	family := map[bool]string{false: "ip", true: "ip6"}[v6]
	pair := ""
	if len(words) > 1 {
		pair = words[0] + " " + words[1]
	}
	c = &nft.Condition{}
	var read func(*nft.Condition, string, bool) error
	switch pair {
	case family + " saddr":
		read = readFrom
	case family + " daddr":
		read = readTo
	case "meta iifname":
		read = readIn
	case "meta mark":
		read = readMark
	case "th sport", "tcp sport", "udp sport", "sctp sport":
		read = readSourcePorts
	case "-m mark", "-m tcp", "-m udp", "-m sctp", "--match mark", "--match tcp", "--match udp", "--match sctp":
		return nil, words[2:], nil
	}
	if read != nil {
		words = words[1:]
	} else if len(words) > 0 {
		switch words[0] {
		case "-s", "--source", "--src":
			read = readFrom
		case "-d", "--destination", "--dst":
			read = readTo
		case "-i", "--in-interface", "iifname":
			read = readIn
		case "--mark":
			read = readMark
		case "--sport", "--source-port":
			read = readSourcePorts
		}
	}
	if len(words) == 0 {
		return nil, nil, errors.New("a match is missing after !")
	}
	if read == nil {
		return nil, nil, fmt.Errorf("%q is not a match that is known here", words[0])
	}
	name, rest := words[0], words[1:]
	if len(rest) > 0 && (rest[0] == "!=" || rest[0] == "!" || rest[0] == "==") {
		c.Not = rest[0] != "=="
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return nil, nil, fmt.Errorf("%q lacks its value", name)
	}
	if err := read(c, strings.Trim(rest[0], `"`), v6); err != nil {
		return nil, nil, fmt.Errorf("%q: %w", name+" "+rest[0], err)
	}
	return c, rest[1:], nil
}

func readFrom(c *nft.Condition, s string, v6 bool) (err error) {
	c.From, err = readPrefix(s, v6)
	return err
}

func readTo(c *nft.Condition, s string, v6 bool) (err error) {
	c.To, err = readPrefix(s, v6)
	return err
}

func readPrefix(s string, v6 bool) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil || p.Addr().Is6() != v6 {
		return p, fmt.Errorf("want one address or prefix of IPv%s", map[bool]string{false: "4", true: "6"}[v6])
	}
	return p.Masked(), nil
}

func readIn(c *nft.Condition, s string, _ bool) error {
	c.In = s
	if name, all := strings.CutSuffix(s, "*"); all {
		c.In = name + "+"
	}
	if c.In == "" || len(c.In) > 15 || strings.ContainsAny(c.In, "/ \t\n") {
		return errors.New("want a link's name")
	}
	return nil
}

func readMark(c *nft.Condition, s string, _ bool) error {
	value, mask, masked := strings.Cut(s, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	m := uint64(0xffffffff)
	if err == nil && masked {
		m, err = strconv.ParseUint(mask, 0, 32)
	}
	if err != nil {
		return errors.New("want VALUE or VALUE/MASK")
	}
	c.Mark = &nft.Mark{Value: uint32(v), Mask: uint32(m)}
	return nil
}

func readSourcePorts(c *nft.Condition, s string, _ bool) error {
	first, last, row := strings.Cut(strings.ReplaceAll(s, ":", "-"), "-")
	if !row {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a > b {
		return errors.New("want a port, or FIRST-LAST")
	}
	c.SourcePorts = &bowline.PortRange{First: uint16(a), Last: uint16(b)}
	return nil
}
