package nft

import (
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

// forwardLegacy is forward for the legacy tables of the thread's namespace.
func (r ruleset) forwardLegacy() (drops bool, leads []string, err error) {
	l := layoutOf(r.family)
	if !l.inUse() {
		return false, nil, nil
	}
	chains, err := l.read()
	if err != nil {
		return false, nil, err
	}
	forward := chains["FORWARD"].rules
	for name, c := range chains {
		if slices.ContainsFunc(forward, func(rule legacyRule) bool { return rule.plain && rule.verdict == c.start }) {
			leads = append(leads, name)
		}
	}
	return len(forward) > 0 && forward[len(forward)-1].verdict == drop, leads, nil
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
