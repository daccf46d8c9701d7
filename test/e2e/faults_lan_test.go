package e2e

import (
	"slices"
	"strings"
)

// where is what the table adds to a row for the network.
func (f *faults) where(c conf) string {
	if c["type"] == "bowline-macvlan" {
		return ", on a LAN"
	}
	return ""
}

// lanKilledFirst kills at the only container of a network, with whom the host's
// own link on the parent comes and goes; others have a network of their own on
// the same parent.
func lanKilledFirst(f *faults) {
	f.bystanders(allOnLAN("db", db4, db6).with("host-access", true))
	v := &victim{faults: f, c: allOnLAN("web", web4, web6).with("host-access", true), box: f.sandbox("a"), step: 2, plugin: "on a LAN"}
	for _, verb := range []string{"ADD", "DEL", "CHECK", "STATUS", "GC"} {
		v.killEach(verb, "first of its network, with host access")
	}
	v.c, v.step = allOnLAN("web", web4, web6), 4
	for _, verb := range []string{"ADD", "DEL", "GC"} {
		v.killEach(verb, "first of its network")
	}
}

// lanKilledFurther kills at a container on a network that has others.
func lanKilledFurther(f *faults) {
	c := allOnLAN("web", web4, web6).with("host-access", true)
	v := &victim{faults: f, c: c, keep: f.bystanders(c), box: f.sandbox("a"), step: 2, plugin: "on a LAN"}
	v.must("GC") // brings marks of the allocator
	for _, verb := range []string{"ADD", "DEL", "CHECK", "STATUS", "GC"} {
		v.killEach(verb, "beside others, with host access")
	}
}

// lanLosses takes things from under containers of a parent beside that of others.
func lanLosses(f *faults) {
	f.bystanders(allOnLAN("db", db4, db6).with("host-access", true))
	var spared []string
	for _, l := range f.links() {
		spared = append(spared, strings.Fields(l)[0])
	}
	far := f.sandbox("far")
	plug := func() {
		f.run("ip", "link", "add", "up1", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "far0", "netns", far.path)
		f.run("ip", "link", "set", "up1", "up")
		f.run("ip", "addr", "add", "10.1.0.253/24", "dev", "up1")
		f.run("ip", "addr", "add", "fd00:1::fd/64", "dev", "up1", "nodad")
		far.run("ip", "link", "set", "far0", "address", "02:00:00:00:00:02", "up")
	}
	plug()
	f.t.Cleanup(func() { f.run("ip", "link", "delete", "up1") })
	v := &victim{faults: f, c: allOnLAN("web", web4, web6).with("master", "up1").with("host-access", true), box: f.sandbox("a"), plugin: "on a LAN"}
	all := []loss{
		{"its namespace gone", func(v *victim) { v.box.end() }},
		{"its link gone", func(v *victim) { _, _ = v.box.try("ip", "link", "delete", "eth0") }},
		{"its firewall flushed", func(v *victim) { _, _ = v.box.try("nft", "flush", "ruleset") }},
		{"the host's own link gone", func(v *victim) {
			for _, l := range v.links() {
				if name := strings.Fields(l)[0]; strings.HasPrefix(name, "bwh") && !slices.Contains(spared, name) {
					_, _ = v.host.try("ip", "link", "delete", name) // it may be gone already
				}
			}
		}},
	}
	v.loseAll(all, "on a LAN")
	v.lost(all)
	v.parentGone(plug)
}

// parentGone takes the parent from under a container: CHECK says so, and DEL and
// GC take the rest, with it and without it.
func (v *victim) parentGone(plug func()) {
	v.t.Helper()
	v.must("GC")
	before := v.whole().without("link", func(l string) bool { return strings.HasPrefix(l, "up1 ") })
	for _, cure := range []string{"DEL", "GC"} {
		v.must("ADD")
		v.run("ip", "link", "delete", "up1")
		if err := v.try("CHECK"); code(err) != 102 {
			v.t.Errorf("CHECK, the parent gone: %v; want code 102", err)
		}
		if err := v.try("STATUS"); code(err) != 51 {
			v.t.Errorf("STATUS, the parent gone: %v; want code 51", err)
		}
		v.must(cure)
		v.must("GC")
		v.box.empty("the parent gone, then " + cure)
		plug()
		is := v.whole().without("link", func(l string) bool { return strings.HasPrefix(l, "up1 ") })
		if d := diff(before, is); d != "" {
			v.t.Errorf("the parent gone, then %s and GC:\n%s", cure, d)
		}
		v.report.add("attached container on a LAN, the parent gone", "CHECK, "+cure, 1)
	}
}

// lanStrangers: ADD says whose thing is in the way, and nobody touches it.
func lanStrangers(f *faults) {
	v := &victim{faults: f, c: allOnLAN("web", web4, web6).with("host-access", true), box: f.sandbox("a")}
	v.must("ADD")
	names := strings.NewReplacer("SHIM", f.shim())
	v.must("DEL")
	v.must("GC")
	v.beside([]stranger{
		{"a link with the name of the host's own", "ip link add SHIM type veth peer name stranger0", []string{"SHIM", "somebody else's"}},
		{"a macvlan with the name of the host's own", "ip link add SHIM link up0 type macvlan mode bridge", []string{"SHIM", "somebody else's"}},
		{"a table netdev bowline", "nft add table netdev bowline\nnft add chain netdev bowline theirs", []string{"table netdev bowline"}},
		{"a table ip bowline", "nft add table ip bowline\nnft add chain ip bowline theirs", nil},
		{"a table netdev bowline, owned by a process", "own netdev", []string{"table netdev bowline"}},
		{"a macvlan on the same parent", "ip link add theirs link up0 type macvlan mode bridge", nil},
	}, names)
}
