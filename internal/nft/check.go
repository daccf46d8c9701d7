package nft

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"

	"github.com/bowline-net/bowline"
)

// CheckEndpoint returns nil if all rules and elements that the endpoint and its
// network rely on are there, or an error that wraps [bowline.ErrDiffers] and
// names the first that is not.
func (h *Handle) CheckEndpoint(ctx context.Context, n Network, e Endpoint) error {
	what := fmt.Sprintf("check firewall of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var chains []chain
	for _, f := range n.families() {
		chains = append(chains, f.chains()...)
	}
	for _, p := range n.Masq {
		chains = append(chains, familyOf(p).masqChain(p))
	}
	if e.MAC != nil {
		chains = append(chains, bridgeChain())
	}
	return failure(what, h.with(func(c *nftables.Conn) error {
		for _, ch := range chains {
			if err := ch.check(c); err != nil {
				return err
			}
		}
		for _, want := range slices.Concat(n.elements(), e.shared(n), e.elements(n)) {
			if err := want.check(c); err != nil {
				return err
			}
		}
		return e.checkPolicy(c, n)
	}))
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "bridge"
}

// check compares the comments of the chain's rules.
func (ch chain) check(c *nftables.Conn) error {
	where := fmt.Sprintf("chain %s of table %s %s", ch.Name, familyName(ch.Table.Family), ch.Table.Name)
	rules, err := c.GetRules(ch.Table, ch.Chain)
	if err != nil && !notExist(err) {
		return fmt.Errorf("%s: %w", where, err)
	}
	var got, want []string
	for _, r := range rules {
		text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		got = append(got, text)
	}
	for _, r := range ch.rules {
		want = append(want, r.text)
	}
	if g, w := strings.Join(got, "; "), strings.Join(want, "; "); g != w {
		return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("%s has rules %q, want %q", where, g, w))
	}
	return nil
}

func (want element) check(c *nftables.Conn) error {
	where := fmt.Sprintf("set %s of table %s %s", want.set.Name, familyName(want.set.Table.Family), want.set.Table.Name)
	all, err := dump(c, want.set)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	for _, got := range all {
		if !bytes.Equal(got.Key, want.Key) {
			continue
		}
		// The library does not read verdicts back, so the comment says them.
		if got.Comment == want.Comment {
			return nil
		}
		return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("%s has %s as %q, want %q", where, printable(want.Key), got.Comment, want.Comment))
	}
	return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("%s lacks %s", where, printable(want.Key)))
}

// printable shows an interface's name and what follows it in a key.
func printable(key []byte) string {
	name, _, _ := bytes.Cut(key[:min(16, len(key))], []byte{0})
	rest := ""
	if len(key) > 16 {
		rest = fmt.Sprintf(" . %x", key[16:])
	}
	return string(name) + rest
}
