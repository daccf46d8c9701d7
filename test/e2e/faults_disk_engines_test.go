package e2e

import (
	"strings"

	"golang.org/x/sys/unix"
)

// runtimeDisk has the command line meet full and read-only directories.
func runtimeDisk(f *faults) {
	run, lib := f.diskAt("run", 160), f.diskAt("lib", 64)
	f.bystanders(allOn("db", db4, db6))
	for _, line := range []string{"network create web --ipv6", "sandbox create one", "connect one web", "disconnect one web",
		"sandbox create new", "connect new web", "sandbox rm new", "network create new", "network rm new", "gc"} {
		f.line("before", line)
	}
	before := f.whole()
	both := func(do func(d *disk)) { do(run); do(lib) }
	for _, e := range []struct{ do, undo string }{
		{"network create new", "network rm new"}, {"sandbox create new", "sandbox rm new"}, {"connect one web", "disconnect one web"},
	} {
		failed := 0
		for n := 0; ; n++ {
			both(func(d *disk) { d.leave(n, -1) })
			out, err := f.try(bin("bowline"), strings.Fields(e.do)...)
			if err == nil {
				break
			}
			failed++
			f.complains("bowline "+e.do, out, unix.ENOSPC)
			if d := diff(before.withoutNetworks().withoutMarks(), f.whole().withoutBallast().withoutNetworks().withoutMarks()); d != "" {
				f.t.Fatalf("bowline %s with %d pages left:\n%s", e.do, n, d)
			}
		}
		both(func(d *disk) { d.leave(0, 0) })
		f.line("with a full disk", e.undo)
		f.line("with a full disk", "gc")
		if d := diff(before, f.whole().withoutBallast()); d != "" {
			f.t.Fatalf("bowline %s with a full disk:\n%s", e.undo, d)
		}
		both((*disk).free)
		f.report.add("disk for records full, at each page that `bowline "+strings.TrimSuffix(strings.TrimSuffix(e.do, " new"), " one web")+"` takes", "nothing: it has cleared up by itself", failed)
		both(func(d *disk) { d.readonly(true) })
		out, err := f.try(bin("bowline"), strings.Fields(e.do)...)
		if err == nil {
			f.t.Errorf("bowline %s succeeded with read-only directories", e.do)
		}
		f.complains("bowline "+e.do, out, unix.EROFS)
		if d := diff(before, f.whole()); d != "" {
			f.t.Fatalf("bowline %s with read-only directories:\n%s", e.do, d)
		}
		both(func(d *disk) { d.readonly(false) })
		f.report.add("state directory read-only", "nothing: `bowline` has cleared up by itself", 1)
	}
	for _, line := range []string{"sandbox rm one", "network rm web"} {
		f.line("at the end", line)
	}
}

// complains fails the test unless out says what is wrong with which directory.
func (f *faults) complains(what, out string, why unix.Errno) {
	f.t.Helper()
	if !strings.Contains(out, why.Error()) || !strings.Contains(out, f.dir) {
		f.t.Errorf("%s: %s; want %q and a file below %s", what, out, why.Error(), f.dir)
	}
}

// cnmDisk leads the life of one of Docker's containers beside full disks.
func cnmDisk(f *faults) {
	run, lib := f.diskAt("run", 160), f.diskAt("lib", 64)
	f.bystanders(allOn("db", db4, db6))
	l := &life{faults: f, box: f.sandbox("a")}
	l.lead(0, 1<<30, false) // brings what is shared and stays
	before := f.whole()
	s := l.serve(0)
	for _, m := range moments() {
		failed := 0
		for n := 0; ; n++ {
			for _, d := range []*disk{run, lib} {
				d.leave(n, -1)
			}
			err := l.live(m)
			if err == nil {
				break
			}
			if failed++; failed > 16 {
				f.t.Fatalf("%s does not succeed with %d pages: %v", m.method, n, err)
			}
			f.complains(m.method, err.Error(), unix.ENOSPC)
		}
		f.report.add("disk for records full, at each page that a call of Docker takes", "the call repeated", failed)
	}
	for _, d := range []*disk{run, lib} {
		d.free()
	}
	s.end(unix.SIGTERM)
	l.box.empty("after a life beside full disks")
	if d := diff(before, f.whole()); d != "" {
		f.t.Errorf("after a life beside full disks:\n%s", d)
	}
}
