package e2e

import (
	"fmt"
	"strings"
	"time"
)

// An errand is a command of the command line that is killed, what is there
// before, what is done then, and what brings back what was there. Commands that
// start with "?" may fail, for what they do may have been done; those with "!"
// are not ours. "_" is a space within an argument.
type errand struct {
	verb    string
	prepare []string
	cures   [][]string
	restore []string
}

func errands() []errand {
	return []errand{
		{"network create new --ipv6", nil, [][]string{{"gc"}, {"?network create new --ipv6", "network inspect new"}}, []string{"?network rm new"}},
		{"network rm new", []string{"network create new --ipv6"}, [][]string{{"gc"}, {"?network rm new"}, {"?network create new --ipv6", "network inspect new"}}, []string{"?network rm new"}},
		{"sandbox create new", nil, [][]string{{"gc"}, {"?sandbox rm new", "sandbox create new", "connect new web"}}, []string{"?sandbox rm new"}},
		{"sandbox rm new", []string{"sandbox create new", "connect new web"}, [][]string{{"gc"}, {"?sandbox rm new"}, {"gc", "?sandbox create new", "?connect new web", "check"}}, []string{"?sandbox rm new"}},
		{"connect one web", nil, [][]string{
			{"gc"}, {"?connect one web", "check"}, {"?disconnect one web", "connect one web", "check"}, {"sandbox rm one", "sandbox create one"},
		}, []string{"?disconnect one web"}},
		{"disconnect one web", []string{"connect one web"}, [][]string{
			{"gc"}, {"?disconnect one web"}, {"?disconnect one web", "connect one web", "check"}, {"sandbox rm one", "sandbox create one"},
		}, []string{"?disconnect one web"}},
		{"shape one --ingress 10mbit --egress 10mbit", []string{"connect one web"}, [][]string{
			{"gc"}, {"shape one --ingress 10mbit --egress 10mbit", "check"},
		}, []string{"disconnect one web"}},
		{"policy set one deny_ingress_icmp", []string{"connect one web"}, [][]string{
			{"gc"}, {"policy set one deny_ingress_icmp", "check"}, {"policy set one deny_egress"},
		}, []string{"disconnect one web"}},
		{"repair", []string{"connect one web", "!unplug one"}, [][]string{{"gc"}, {"repair", "check"}}, []string{"disconnect one web"}},
		{"gc", []string{"sandbox create new", "connect new web", "!umount run/netns/new"}, [][]string{{"gc"}, {"?sandbox rm new", "gc"}}, nil},
	}
}

// words returns the arguments of a line.
func words(line string) []string {
	all := strings.Fields(line)
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], "_", " ")
	}
	return all
}

// line runs one line of an errand.
func (f *faults) line(when, line string) {
	f.t.Helper()
	if args, ok := strings.CutPrefix(line, "!umount "); ok {
		f.run("umount", f.dir+"/"+args)
		return
	}
	if id, ok := strings.CutPrefix(line, "!unplug "); ok { // from its bridge
		var links []struct{ Ifname, Ifalias string }
		f.parse(&links, "ip", "-j", "link")
		for _, l := range links {
			if strings.HasPrefix(l.Ifname, "bwo") && strings.Contains(l.Ifalias, "/"+id+"-") {
				f.run("ip", "link", "set", l.Ifname, "nomaster")
				return
			}
		}
		f.t.Fatalf("%s: no link of %s in %v", when, id, links)
	}
	args, may := strings.CutPrefix(line, "?")
	out, err := f.try(bin("bowline"), words(args)...)
	if err != nil && !may {
		f.t.Fatalf("%s: bowline %s: %v\n%s", when, args, err, out)
	}
}

// runtimeKilled kills the command line, and the plugins that it runs, before
// each of their changes.
func runtimeKilled(f *faults) {
	f.bystanders(allOn("db", db4, db6))
	for _, line := range []string{"network create web --ipv6", "sandbox create one stays", "connect stays web", "gc"} {
		f.line("before", line)
	}
	// What the first one brings and nobody takes away again.
	for _, line := range []string{"network create new --ipv6", "network rm new", "connect one web", "disconnect one web", "sandbox create new", "connect new web", "sandbox rm new", "gc"} {
		f.line("before", line)
	}
	for i, e := range errands() {
		start, kills, step := time.Now(), 0, 7
		if longFaults() {
			step = 1
		}
		for n := 1 + i%step; ; n += step {
			ended := false
			for j, cure := range e.cures {
				if !longFaults() && j != (n/step)%len(e.cures) {
					continue
				}
				if ended = !f.errand(e, n, cure); ended {
					break
				}
				kills++
			}
			if ended {
				break
			}
		}
		f.t.Logf("bowline %s: %d kills in %v", e.verb, kills, time.Since(start))
	}
	for _, line := range []string{"check", "sandbox rm one stays", "network rm web"} {
		f.line("at the end", line)
	}
}

// errand kills the errand's command before change n and does what the cure
// says. It is false if there are not so many changes.
func (f *faults) errand(e errand, n int, cure []string) bool {
	f.t.Helper()
	before := f.whole()
	for _, line := range e.prepare {
		f.line("before "+e.verb, line)
	}
	change, err := f.kill(f.command(bin("bowline"), words(e.verb)...), nil, n)
	if change == "" && err != nil {
		f.t.Fatalf("bowline %s, not killed: %v", e.verb, err)
	}
	when := fmt.Sprintf("bowline %s, killed before change %d (%s), then %s", e.verb, n, change, strings.Join(cure, ", "))
	for _, line := range cure {
		f.line(when, line)
	}
	for _, line := range e.restore {
		f.line(when, line)
	}
	f.age(".tmp-*")
	f.line(when, "gc")
	if out := f.bowline("check"); !strings.HasPrefix(out, "0 of 1 ") {
		f.t.Errorf("%s: check: %s", when, out)
	}
	if d := diff(before, f.whole()); d != "" {
		f.t.Fatalf("%s:\n%s", when, d)
	}
	if change != "" {
		what, _, _ := strings.Cut(strings.TrimSuffix(e.verb, " --ipv6")+" one", " one")
		f.report.add("`bowline "+strings.TrimSuffix(what, " new")+"` or its plugin killed before each of their changes", strings.NewReplacer("?", "", "_", " ").Replace(strings.Join(cure, ", ")), 1)
	}
	return change != ""
}
