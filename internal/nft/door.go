package nft

import (
	"errors"
	"io/fs"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/bowline-net/bowline"
)

const ourChain = "BOWLINE"

// A ruleset is one of iptables': of a family, and kept in nftables or in the
// legacy tables. Which of the two Docker or ufw uses depends on the iptables
// command that it finds, and a host can have both.
type ruleset struct {
	family nftables.TableFamily
	legacy bool
}

func rulesets() []ruleset {
	return []ruleset{
		{nftables.TableFamilyIPv4, false}, {nftables.TableFamilyIPv6, false},
		{nftables.TableFamilyIPv4, true}, {nftables.TableFamilyIPv6, true},
	}
}

// doors are the chains that others keep for rules that are not theirs, all of
// them after the user's own: Docker's, and ufw's.
func (r ruleset) doors() []string {
	if r.family == nftables.TableFamilyIPv6 {
		return []string{"DOCKER-USER", "ufw6-after-forward"}
	}
	return []string{"DOCKER-USER", "ufw-after-forward"}
}

// A view is what a look at a ruleset shows.
type view struct {
	doors  []string // that there are
	closed []string // of them, those that do not lead to our chain
	ours   bool     // our chain is there
	rules  int      // that our chain has for the bridge
}

// has reports whether nothing is left to do for r.
func (v view) has(r ruleset, room Room) bool {
	return len(v.doors) == 0 || v.ours && len(v.closed) == 0 && v.rules == len(r.rules(room))
}

func (h *Handle) look(r ruleset, bridge string) (v view, err error) {
	if r.legacy {
		err = h.inside(func() (err error) {
			v, err = r.lookLegacy(bridge)
			return err
		})
		if h.dry != nil && errors.Is(err, fs.ErrPermission) { // nor would we know of any
			return view{}, nil
		}
		return v, err
	}
	err = h.with(func(c *nftables.Conn) error {
		t := &nftables.Table{Name: "filter", Family: r.family}
		for _, door := range r.doors() {
			rs, err := rulesOf(c, t, door)
			if errors.Is(err, bowline.ErrUnknown) {
				continue
			}
			if err != nil {
				return err
			}
			v.doors = append(v.doors, door)
			if !slices.ContainsFunc(rs, jumps) {
				v.closed = append(v.closed, door)
			}
		}
		rs, err := rulesOf(c, t, ourChain)
		if errors.Is(err, bowline.ErrUnknown) {
			return nil
		}
		v.ours = true
		v.rules = len(slices.DeleteFunc(rs, func(r *nftables.Rule) bool { return !names(r, bridge) }))
		return err
	})
	return v, err
}

// rulesOf returns the chain's rules, or an error that wraps [bowline.ErrUnknown]
// if there is no such chain.
func rulesOf(c *nftables.Conn, t *nftables.Table, name string) ([]*nftables.Rule, error) {
	ch, err := c.ListChain(t, name)
	if err != nil {
		if notExist(err) {
			return nil, bowline.ErrUnknown
		}
		return nil, err
	}
	return c.GetRules(t, ch)
}

// names reports whether the rule compares something with the bridge's name.
func names(r *nftables.Rule, bridge string) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		cmp, ok := e.(*expr.Cmp)
		return ok && strings.TrimRight(string(cmp.Data), "\x00") == bridge
	})
}

// jumps reports whether the rule leads to our chain.
func jumps(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && v.Chain == ourChain
	})
}

// rulesFor returns the rules of our chain that name the bridge, without -A and
// the chain.
func rulesFor(ipt *iptables.IPTables, bridge string) ([][]string, error) {
	all, err := ipt.List("filter", ourChain)
	var rules [][]string
	for _, line := range all {
		if words := strings.Fields(line); len(words) > 2 && words[0] == "-A" && slices.Contains(words, bridge) {
			rules = append(rules, words[2:])
		}
	}
	return rules, err
}

// command returns the iptables of the ruleset's kind: the plain name can be of
// either.
func (r ruleset) command() (*iptables.IPTables, error) {
	proto, name, kind := iptables.ProtocolIPv4, "iptables", "-nft"
	if r.family == nftables.TableFamilyIPv6 {
		proto, name = iptables.ProtocolIPv6, "ip6tables"
	}
	if r.legacy {
		kind = "-legacy"
	}
	if _, err := exec.LookPath(name + kind); err == nil {
		name += kind
	}
	return iptables.New(iptables.IPFamily(proto), iptables.Timeout(10), iptables.Path(name))
}

// rules accept what a bridge forwards, what comes back to it and what is
// published of it. Docker's own bridges are left to Docker, which keeps
// networks apart.
func (r ruleset) rules(room Room) [][]string {
	b := room.Bridge
	rules := [][]string{
		{"-i", b, "-o", b, "-j", "ACCEPT"},
		{"-i", b, "-o", "docker0", "-j", "RETURN"},
		{"-i", b, "-o", "br-+", "-j", "RETURN"},
		{"-i", b, "-j", "ACCEPT"},
		{"-o", b, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "ACCEPT"},
	}
	for _, link := range room.Trusted {
		rules = append(rules, []string{"-i", link, "-o", b, "-j", "ACCEPT"})
	}
	if r.family == nftables.TableFamilyIPv4 && room.Open4 || r.family == nftables.TableFamilyIPv6 && room.Open6 {
		rules = append(rules, []string{"-o", b, "-j", "ACCEPT"})
	}
	return rules
}

// makeRoom adds the bridge's rules, all anew because their order matters. The
// user's own rules stay before ours; only what they let pass gets to our chain.
func (r ruleset) makeRoom(room Room, v view) error {
	ipt, err := r.command()
	if err != nil {
		return err
	}
	if exists, err := ipt.ChainExists("filter", ourChain); err != nil {
		return err
	} else if !exists {
		if err := ipt.NewChain("filter", ourChain); err != nil {
			return err
		}
	}
	if err := forget(ipt, room.Bridge); err != nil {
		return err
	}
	for _, rule := range r.rules(room) {
		if err := ipt.Append("filter", ourChain, rule...); err != nil {
			return err
		}
	}
	for _, door := range v.doors {
		rules, err := ipt.List("filter", door) // the first line declares the chain
		if err != nil || slices.Contains(rules, "-A "+door+" -j "+ourChain) {
			if err != nil {
				return err
			}
			continue
		}
		place := len(rules)
		if rules[place-1] == "-A "+door+" -j RETURN" { // older Dockers end it so
			place--
		}
		if err := ipt.Insert("filter", door, place, "-j", ourChain); err != nil {
			return err
		}
	}
	return nil
}

// forget removes the bridge's rules from our chain.
func forget(ipt *iptables.IPTables, bridge string) error {
	rules, err := rulesFor(ipt, bridge)
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if err := ipt.DeleteIfExists("filter", ourChain, rule...); err != nil {
			return err
		}
	}
	return nil
}

// giveBackRoom removes the bridge's rules, and our chain with the last bridge.
func (r ruleset) giveBackRoom(bridge string, v view) error {
	ipt, err := r.command()
	if err != nil {
		return err
	}
	if err := forget(ipt, bridge); err != nil {
		return err
	}
	left, err := ipt.List("filter", ourChain)
	if err != nil || len(left) > 1 {
		return err
	}
	for _, door := range v.doors {
		if err := ipt.DeleteIfExists("filter", door, "-j", ourChain); err != nil {
			return err
		}
	}
	return ipt.DeleteChain("filter", ourChain)
}
