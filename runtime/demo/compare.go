package demo

import (
	"fmt"
	"slices"
	"strings"
)

// A Difference is a line that the host has more or less than before.
type Difference struct {
	Kind string `json:"kind"`
	New  bool   `json:"new"` // else it is gone
	Line string `json:"line"`
}

func (d Difference) String() string {
	sign := "-"
	if d.New {
		sign = "+"
	}
	return fmt.Sprintf("%s %s: %s", sign, d.Kind, d.Line)
}

// compare returns what differs between two snapshots. Lines count as often as
// they occur; of two lists with the same lines the order matters, for it does in
// firewalls.
func compare(before, after []section) []Difference {
	var found []Difference
	for i, b := range before {
		a := after[i]
		if slices.Equal(a.lines, b.lines) {
			continue
		}
		count := map[string]int{}
		for _, line := range b.lines {
			count[line]++
		}
		same := b.kind != processesKind
		for _, line := range a.lines {
			if count[line]--; count[line] < 0 {
				found, same = append(found, Difference{b.kind, true, line}), false
			}
		}
		for _, line := range b.lines {
			if count[line] > 0 && b.kind != processesKind { // those may end
				count[line]--
				found, same = append(found, Difference{b.kind, false, line}), false
			}
		}
		if same {
			found = append(found, Difference{b.kind, true, "the same lines in another order"})
		}
	}
	return found
}

// sayComparison shows what was compared, and the differences.
func (d *demo) sayComparison(before []section) {
	var kinds []string
	for _, s := range before {
		kinds = append(kinds, fmt.Sprintf("%d %s", len(s.lines), s.kind))
	}
	d.say("\nThe host before and after, compared line by line: %s.", strings.Join(kinds, ", "))
	for _, x := range d.report.Differences {
		d.say("  %v", x)
	}
	if len(d.report.Differences) == 0 {
		d.say("Nothing differs. It took %.1f s.", d.report.Took)
	} else {
		d.say("%d differences. If something else was at work on this host, run it again.", len(d.report.Differences))
	}
}
