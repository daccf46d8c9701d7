package nft

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A door is of no use when nothing leads to it: "iptables -F" empties FORWARD
// and leaves its policy, which drops, and the chains that it led to.

// blocked returns the doors of the ruleset that FORWARD, which drops, does not
// lead to.
func (h *Handle) blocked(r ruleset, v view) (doors []string, err error) {
	if len(v.doors) == 0 {
		return nil, nil
	}
	var drops bool
	var leads []string
	if r.legacy {
		err = h.inside(func() (err error) {
			drops, leads, err = r.forwardLegacy()
			return err
		})
	} else {
		err = h.with(func(c *nftables.Conn) (err error) {
			drops, leads, err = forward(c, &nftables.Table{Name: "filter", Family: r.family})
			return err
		})
	}
	if err != nil || !drops {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(v.doors), func(d string) bool { return slices.Contains(leads, d) }), nil
}

// forward returns whether FORWARD drops what its rules leave, and where they
// lead.
func forward(c *nftables.Conn, t *nftables.Table) (drops bool, leads []string, err error) {
	ch, err := c.ListChain(t, "FORWARD")
	if err != nil {
		if notExist(err) {
			err = nil
		}
		return false, nil, err
	}
	rules, err := c.GetRules(t, ch)
	for _, rule := range rules {
		for _, e := range rule.Exprs {
			if v, ok := e.(*expr.Verdict); ok {
				leads = append(leads, v.Chain)
			}
		}
	}
	return ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop, leads, err
}

// forwardLegacy is forward for the legacy tables. Looking needs no lock, and
// must not take the one that tells others, and us, of a change.
func (r ruleset) forwardLegacy() (drops bool, leads []string, err error) {
	name := "iptables-legacy"
	if r.family == nftables.TableFamilyIPv6 {
		name = "ip6tables-legacy"
	}
	cmd := exec.Command(name, "-t", "filter", "-S", "FORWARD")
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+os.DevNull)
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, fmt.Errorf("%s -S FORWARD: %w", name, err)
	}
	for l := range strings.Lines(string(out)) {
		l = strings.TrimSpace(l)
		drops = drops || l == "-P FORWARD DROP"
		if chain, ok := strings.CutPrefix(l, "-A FORWARD -j "); ok {
			leads = append(leads, chain)
		}
	}
	return drops, leads, nil
}

// unblock leads FORWARD to the doors again, each where its owner does: Docker
// first of all, ufw after its other chains.
func (r ruleset) unblock(doors []string) error {
	ipt, err := r.command()
	if err != nil {
		return err
	}
	for _, d := range doors {
		if strings.HasPrefix(d, "DOCKER") {
			err = ipt.Insert("filter", "FORWARD", 1, "-j", d)
		} else {
			err = ipt.Append("filter", "FORWARD", "-j", d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
