package e2e

import (
	"fmt"
	"slices"
	"strings"
)

// A loss is something that goes while a verb is at work.
type loss struct {
	name string
	take func(v *victim)
}

// losses are what an engine, an administrator or the kernel can take from
// under one container.
func losses() []loss {
	host := func(v *victim, prefix string) {
		for _, l := range v.links() {
			name := strings.Fields(l)[0]
			if strings.HasPrefix(name, prefix) && !slices.Contains(v.spared, name) {
				_, _ = v.host.try("ip", "link", "delete", name) // it may be gone already
			}
		}
	}
	return []loss{
		{"its namespace gone", func(v *victim) { v.box.end() }},
		{"its link in the host gone", func(v *victim) { host(v, "bwo") }},
		{"its link in the container gone", func(v *victim) { _, _ = v.box.try("ip", "link", "delete", "eth0") }},
		{"its ifb gone", func(v *victim) { host(v, "bwf") }},
		{"its bridge gone", func(v *victim) { host(v, "br-web") }},
	}
}

// loseEach takes something away at each change of the verb, or at every sixth
// from the one that turn says, which may fail for it. DEL and GC then clear what
// there is.
func (v *victim) loseEach(verb, where string, l loss, turn int) {
	v.t.Helper()
	step := 6
	if longFaults() {
		step = 1
	}
	for n := 1 + turn%step; ; n += step {
		before := v.whole()
		if verb != "ADD" {
			v.must("ADD")
		}
		cmd, stdin := v.call(verb)
		change, err := v.interrupt(cmd, stdin, n, func() { l.take(v) })
		if change == "" {
			if err != nil {
				v.t.Fatalf("%s, undisturbed: %v", verb, err)
			}
			v.must("DEL")
			v.must("GC")
			return
		}
		when := fmt.Sprintf("%s %s, %s before change %d (%s)", verb, where, l.name, n, change)
		if err != nil && (verb != "ADD" || code(err) <= 0) {
			v.t.Errorf("%s: %v; want success, or of ADD an error with a code", when, err)
		}
		v.report.add("CNI "+verb+", "+l.name+" at each of its changes, "+where, "DEL, GC", 1)
		v.must("DEL")
		if !fileExists(v.box.path) {
			v.box = v.sandbox(v.box.id)
		}
		v.box.empty(when)
		v.must("GC")
		if d := diff(before, v.whole()); d != "" {
			v.t.Fatalf("%s, then DEL and GC:\n%s", when, d)
		}
	}
}

// cniLosses takes things from under containers, beside others on a network of
// their own.
func cniLosses(f *faults) {
	f.bystanders(allOn("db", db4, db6))
	v := &victim{faults: f, c: allOn("web", web4, web6), box: f.sandbox("a")}
	for _, l := range f.links() {
		v.spared = append(v.spared, strings.Fields(l)[0])
	}
	v.loseAll(losses(), "first of its network")
	v.lost(losses())
}

func (v *victim) loseAll(losses []loss, where string) {
	v.t.Helper()
	for i, l := range losses {
		for _, verb := range []string{"ADD", "DEL", "GC"} {
			if longFaults() || verb == "ADD" || i < 2 {
				v.loseEach(verb, where, l, i)
			}
		}
	}
}

// lost asks about a container that something was taken from: CHECK says so,
// and DEL and GC take the rest.
func (v *victim) lost(losses []loss) {
	v.t.Helper()
	for _, l := range losses {
		for _, cure := range []string{"DEL", "GC"} {
			before := v.whole()
			v.must("ADD")
			l.take(v)
			if err := v.try("CHECK"); code(err) != 102 {
				v.t.Errorf("CHECK, %s: %v; want code 102", l.name, err)
			}
			v.must(cure)
			if !fileExists(v.box.path) {
				v.box = v.sandbox(v.box.id)
			}
			v.box.empty(l.name + ", then " + cure)
			v.must("GC")
			if d := diff(before, v.whole()); d != "" {
				v.t.Errorf("%s, then %s and GC:\n%s", l.name, cure, d)
			}
			v.report.add("attached container, "+l.name+v.where(v.c), "CHECK, "+cure, 1)
		}
	}
}
