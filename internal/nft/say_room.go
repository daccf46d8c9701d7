package nft

import (
	"strings"

	"github.com/google/nftables"

	todo "github.com/bowline-net/bowline/internal/plan"
)

// changeRoom is change for what can also be said, as commands.
func (h *Handle) changeRoom(f func() error, say func() []string) error {
	if h.dry == nil {
		return h.change(f)
	}
	for _, line := range say() {
		h.dry.plan.Add(todo.Other, host, "%s", line)
	}
	return nil
}

// say is the command of the ruleset's kind.
func (r ruleset) say(args ...string) string {
	name := "iptables"
	if r.family == nftables.TableFamilyIPv6 {
		name = "ip6tables"
	}
	if r.legacy {
		name += "-legacy"
	} else {
		name += "-nft"
	}
	return name + " " + strings.Join(args, " ")
}

// sayRoom is what makeRoom would run.
func (r ruleset) sayRoom(room Room, v view) (lines []string) {
	if !v.ours {
		lines = append(lines, r.say("-N", ourChain))
	}
	if v.rules > 0 {
		lines = append(lines, r.say("-D", ourChain, "(each rule that names "+room.Bridge+")"))
	}
	for _, rule := range r.rules(room) {
		lines = append(lines, r.say(append([]string{"-A", ourChain}, rule...)...))
	}
	for _, door := range v.closed {
		lines = append(lines, r.say("-A", door, "-j", ourChain))
	}
	return lines
}

// sayGiveBack is what giveBackRoom would run.
func (r ruleset) sayGiveBack(bridge string) []string {
	return []string{r.say("-D", ourChain, "(each rule that names "+bridge+")")}
}
