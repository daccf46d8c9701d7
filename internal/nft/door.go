package nft

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

const (
	dockerUser = "DOCKER-USER"
	ourChain   = "BOWLINE"
)

// A door is the DOCKER-USER chain of one of iptables' rulesets: of a family,
// and kept in nftables or in the legacy tables. Which of the two Docker uses
// depends on the iptables command that it finds, and a host can have both.
type door struct {
	family nftables.TableFamily
	legacy bool
}

func doors() []door {
	return []door{
		{nftables.TableFamilyIPv4, false}, {nftables.TableFamilyIPv6, false},
		{nftables.TableFamilyIPv4, true}, {nftables.TableFamilyIPv6, true},
	}
}

// look reports whether the door is there, and whether the bridge has all its
// room behind it.
func (h *Handle) look(d door, bridge string) (open, has bool, err error) {
	if d.legacy {
		err = h.inside(func() (err error) {
			open, has, err = d.lookLegacy(bridge)
			return err
		})
		return open, has, err
	}
	err = h.with(func(c *nftables.Conn) error {
		t := &nftables.Table{Name: "filter", Family: d.family}
		if _, err := c.ListChain(t, dockerUser); err != nil {
			return err
		}
		open = true
		ours, err := c.GetRules(t, &nftables.Chain{Name: ourChain, Table: t})
		if err != nil {
			return err
		}
		users, err := c.GetRules(t, &nftables.Chain{Name: dockerUser, Table: t})
		named := func(r *nftables.Rule) bool { return names(r, bridge) }
		has = len(slices.DeleteFunc(ours, func(r *nftables.Rule) bool { return !named(r) })) == len(roomRules(bridge)) &&
			slices.ContainsFunc(users, jumps)
		return err
	})
	if err != nil && notExist(err) {
		err = nil
	}
	return open, has, err
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

// lookLegacy asks the kernel's list of legacy tables first, for the commands
// take a millisecond each, and would make the table.
func (d door) lookLegacy(bridge string) (open, has bool, err error) {
	list := "/proc/thread-self/net/ip_tables_names"
	if d.family == nftables.TableFamilyIPv6 {
		list = "/proc/thread-self/net/ip6_tables_names"
	}
	tables, err := os.ReadFile(list)
	if err != nil || !slices.Contains(strings.Fields(string(tables)), "filter") {
		return false, false, nil // no legacy iptables in this kernel, or not in use
	}
	ipt, err := d.command()
	if errors.Is(err, exec.ErrNotFound) {
		return false, false, nil // nobody can have a door there
	}
	if err != nil {
		return false, false, err
	}
	all, err := ipt.List("filter", dockerUser)
	if notThere(err) {
		return false, false, nil
	}
	if err != nil || !slices.Contains(all, "-A "+dockerUser+" -j "+ourChain) {
		return err == nil, false, err
	}
	rules, err := ipt.List("filter", ourChain)
	named := 0
	for _, r := range rules {
		if slices.Contains(strings.Fields(r), bridge) {
			named++
		}
	}
	return true, named == len(roomRules(bridge)), err
}

// notThere goes by the exit status, for the nft command, where there is no
// other, has words of its own for a chain that is not there.
func notThere(err error) bool {
	var failed *iptables.Error
	return errors.As(err, &failed) && failed.ExitStatus() == 1
}

// command returns the iptables of the door's kind: the plain name can be of
// either.
func (d door) command() (*iptables.IPTables, error) {
	proto, name, kind := iptables.ProtocolIPv4, "iptables", "-nft"
	if d.family == nftables.TableFamilyIPv6 {
		proto, name = iptables.ProtocolIPv6, "ip6tables"
	}
	if d.legacy {
		kind = "-legacy"
	}
	if _, err := exec.LookPath(name + kind); err == nil {
		name += kind
	}
	return iptables.New(iptables.IPFamily(proto), iptables.Timeout(10), iptables.Path(name))
}

// roomRules accept what a bridge forwards, and what comes back to it. Docker's
// own bridges are left to Docker, which keeps networks apart.
func roomRules(bridge string) [][]string {
	return [][]string{
		{"-i", bridge, "-o", bridge, "-j", "ACCEPT"},
		{"-i", bridge, "-o", "docker0", "-j", "RETURN"},
		{"-i", bridge, "-o", "br-+", "-j", "RETURN"},
		{"-i", bridge, "-j", "ACCEPT"},
		{"-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"},
	}
}

// makeRoom adds the bridge's rules, all anew because their order matters. The
// user's own rules in DOCKER-USER stay before ours; only what they let pass
// gets to our chain.
func (d door) makeRoom(bridge string) error {
	ipt, err := d.command()
	if err != nil {
		return err
	}
	exists, err := ipt.ChainExists("filter", ourChain)
	if err == nil && !exists {
		err = ipt.NewChain("filter", ourChain)
	}
	if err != nil {
		return err
	}
	for _, r := range roomRules(bridge) {
		if err := ipt.DeleteIfExists("filter", ourChain, r...); err != nil {
			return err
		}
	}
	for _, r := range roomRules(bridge) {
		if err := ipt.Append("filter", ourChain, r...); err != nil {
			return err
		}
	}
	users, err := ipt.List("filter", dockerUser) // the first line declares the chain
	if err != nil || slices.Contains(users, "-A "+dockerUser+" -j "+ourChain) {
		return err
	}
	place := len(users)
	if users[place-1] == "-A "+dockerUser+" -j RETURN" { // older Dockers end it so
		place--
	}
	return ipt.Insert("filter", dockerUser, place, "-j", ourChain)
}

func (d door) giveBackRoom(bridge string) error {
	ipt, err := d.command()
	if err != nil {
		return err
	}
	if exists, err := ipt.ChainExists("filter", ourChain); err != nil || !exists {
		return err
	}
	for _, r := range roomRules(bridge) {
		if err := ipt.DeleteIfExists("filter", ourChain, r...); err != nil {
			return err
		}
	}
	left, err := ipt.List("filter", ourChain)
	if err != nil || len(left) > 1 {
		return err
	}
	if err := ipt.DeleteIfExists("filter", dockerUser, "-j", ourChain); err != nil {
		return err
	}
	return ipt.DeleteChain("filter", ourChain)
}
