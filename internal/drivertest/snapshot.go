package drivertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// Snapshot returns everything of the namespace that a driver can change, as the
// system's own commands print it.
func Snapshot(t testing.TB, ns *netns.Handle) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-o", "addr"}, {"ip", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
		{"ip", "rule"}, {"ip", "-6", "rule"}, {"nft", "list", "ruleset"},
	} {
		fmt.Fprintf(&b, "# %s\n", strings.Join(args, " "))
		for line := range strings.Lines(netnstest.Command(t, ns, args...)) {
			b.WriteString(settled(line))
		}
	}
	return b.String()
}

// settled drops what the kernel changes by itself some time after a link got or
// lost its carrier: flags, and what goes with IPv6 link-local addresses; nor does
// it route to a new IPv6 address at once.
func settled(line string) string {
	byItself := strings.HasPrefix(line, "local ") && strings.Contains(line, ":")
	if byItself || strings.Contains(line, "fe80:") || strings.Contains(line, "ff00::/8") {
		return ""
	}
	return strings.NewReplacer("NO-CARRIER,", "", ",LOWER_UP", "", ",M-DOWN", "",
		"state DOWN", "", "state UP", "", "state UNKNOWN", "", "state LOWERLAYERDOWN", "", "linkdown ", "").Replace(line)
}
