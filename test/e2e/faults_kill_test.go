package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory returns a file that is nowhere, holding data.
func memory(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("e2e", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "memory")
	if _, err = f.WriteAt(data, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// kill runs the command and kills the process of it that is about to make the
// change number n. It returns the name of that change, or "" if there are not
// so many; and whether the command ended well.
func (f *faults) kill(cmd *exec.Cmd, stdin []byte, n int) (change string, err error) {
	f.t.Helper()
	return f.interrupt(cmd, stdin, n, nil)
}

// interrupt is kill that calls first before the change, unless that is nil.
func (f *faults) interrupt(cmd *exec.Cmd, stdin []byte, n int, first func()) (change string, err error) {
	f.t.Helper()
	var files [3]*os.File
	for i, data := range [][]byte{stdin, nil, nil} {
		if files[i], err = memory(data); err != nil {
			f.t.Fatal(err)
		}
		defer files[i].Close()
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	r := tracer{first: first}
	r.stopAt.Store(int64(n))
	if err := f.do(func() error { return r.run(cmd) }); err != nil {
		f.t.Fatal(err)
	}
	if r.status.Exited() && r.status.ExitStatus() == 0 {
		return r.change, nil
	}
	var texts [2][]byte
	for i := range texts {
		texts[i] = make([]byte, 64<<10)
		n, _ := files[i+1].ReadAt(texts[i], 0)
		texts[i] = texts[i][:n]
	}
	var ce cniError
	if json.Unmarshal(texts[0], &ce) == nil && ce.Code != 0 {
		return r.change, &ce
	}
	return r.change, fmt.Errorf("%s: wait status %#x, stdout %q, stderr %q", cmd, r.status, texts[0], texts[1])
}

// A victim is a container on a network, and those who must be spared.
type victim struct {
	*faults
	c    conf
	box  *sandbox
	keep []string
	prev result // of its last ADD

	spared []string // links that are not to be taken away
	plugin string   // named in the table, unless it is the usual one
	step   int      // every so many changes count, unless all are to; 0: each
}

// call returns the command of a verb, and what it reads.
func (v *victim) call(verb string) (*exec.Cmd, []byte) {
	v.t.Helper()
	c := v.c
	switch verb {
	case "GC":
		list := []any{}
		for _, id := range v.keep {
			list = append(list, map[string]any{"containerID": filepath.Dir(id), "ifname": "eth0"})
		}
		c = c.with("cni.dev/valid-attachments", list)
	case "CHECK":
		c = c.with("prevResult", v.prev.raw)
	}
	stdin, err := json.Marshal(c)
	if err != nil {
		v.t.Fatal(err)
	}
	cmd := v.command(findPlugin(fmt.Sprint(c["type"])))
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "CNI_COMMAND="+verb, "CNI_PATH="+cniPath())
	if verb != "GC" && verb != "STATUS" {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+v.box.id, "CNI_NETNS="+v.box.path, "CNI_IFNAME=eth0")
	}
	return cmd, stdin
}

// must runs a verb to its end.
func (v *victim) must(verb string) {
	v.t.Helper()
	if err := v.try(verb); err != nil {
		v.t.Fatalf("%s: %v", verb, err)
	}
}

func (v *victim) try(verb string) error {
	v.t.Helper()
	cmd, stdin := v.call(verb)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout = bytes.NewReader(stdin), &out
	err := v.do(cmd.Run)
	var ce cniError
	if err != nil && json.Unmarshal(out.Bytes(), &ce) == nil && ce.Code != 0 {
		return &ce
	}
	if err == nil && verb == "ADD" {
		v.prev = result{raw: out.Bytes()}
		err = json.Unmarshal(out.Bytes(), &v.prev)
	}
	return err
}

// A cure is what an engine may do after something was killed. After it nothing
// is left, but for what the first container of a network leaves to GC.
type cure struct {
	name string
	do   func(v *victim)
}

func cures(verb string) []cure {
	again := cure{verb + " again", func(v *victim) { v.must(verb) }}
	del := cure{"DEL", func(v *victim) { v.must("DEL") }}
	gc := cure{"GC", func(v *victim) { v.must("GC") }}
	gone := cure{"DEL, its namespace gone", func(v *victim) {
		v.box.end()
		v.must("DEL")
		v.box = v.sandbox(v.box.id)
	}}
	goneGC := cure{"GC, its namespace gone", func(v *victim) {
		v.box.end()
		v.must("GC")
		v.box = v.sandbox(v.box.id)
	}}
	add := cure{"ADD again, CHECK, DEL", func(v *victim) {
		err := v.try("ADD")
		if code(err) == 100 { // it was complete, and only its answer was lost
			v.must("DEL")
			err = v.try("ADD")
		}
		if err != nil {
			v.t.Fatalf("ADD again: %v", err)
		}
		v.must("CHECK")
		v.must("DEL")
	}}
	switch verb {
	case "ADD":
		return []cure{add, del, gc, gone, goneGC}
	case "DEL":
		return []cure{again, gc, gone, add}
	case "GC":
		return []cure{again, goneGC}
	}
	return []cure{{"nothing", func(v *victim) {}}} // what only looks changes nothing
}

// killEach kills the verb at each of its changes.
func (v *victim) killEach(verb, where string) {
	v.t.Helper()
	start, kills, step := time.Now(), 0, 1
	if !longFaults() {
		step = max(1, v.step)
	}
	for n := 1; ; n += step {
		todo := cures(verb)
		if !longFaults() {
			todo = todo[n/step%len(todo):][:1]
		}
		for _, cure := range todo {
			before := v.whole()
			if verb != "ADD" && verb != "STATUS" {
				v.must("ADD")
			}
			cmd, stdin := v.call(verb)
			change, err := v.kill(cmd, stdin, n)
			if change == "" {
				if err != nil {
					v.t.Fatalf("%s, not killed: %v", verb, err)
				}
				v.must("DEL")
				v.must("GC")
				v.t.Logf("%s %s: %d kills in %v", verb, where, kills, time.Since(start))
				return
			}
			kills++
			when := fmt.Sprintf("%s %s, killed before change %d (%s), then %s", verb, where, n, change, cure.name)
			cure.do(v)
			if verb == "CHECK" {
				v.must("DEL")
			}
			v.box.empty(when)
			was, is := before, v.whole().withoutTemporary()
			if v.keep == nil { // the network may wait for GC
				was, is = was.withoutNetworks(), is.withoutNetworks()
			}
			if d := diff(was, is); d != "" {
				v.t.Fatalf("%s:\n%s", when, d)
			}
			v.must("GC")
			if d := diff(before, v.whole()); d != "" {
				v.t.Fatalf("%s, then GC:\n%s", when, d)
			}
			v.report.add(strings.TrimSpace("CNI "+verb+" "+v.plugin)+" killed before each of its changes, "+where, cure.name, 1)
		}
	}
}

// cniKilledFurther kills at a container on a network that has others.
func cniKilledFurther(f *faults) {
	c := allOn("web", web4, web6)
	v := &victim{faults: f, c: c, keep: f.bystanders(c), box: f.sandbox("a")}
	v.must("GC") // brings marks of the allocator
	for _, verb := range []string{"ADD", "DEL", "CHECK", "STATUS", "GC"} {
		v.killEach(verb, "beside others")
	}
}

// cniKilledFirst kills at the only container of a network, which comes and goes
// with it; others have a network of their own.
func cniKilledFirst(f *faults) {
	f.bystanders(allOn("db", db4, db6))
	v := &victim{faults: f, c: allOn("web", web4, web6), box: f.sandbox("a"), step: 2}
	for _, verb := range []string{"ADD", "DEL", "CHECK", "STATUS", "GC"} {
		v.killEach(verb, "first of its network")
	}
}

// ipamKilled kills the allocator as a CNI plugin of its own, as other plugins
// than ours run it.
func ipamKilled(f *faults) {
	keep := f.bystanders(allOn("db", db4, db6))
	c := network("web", web4, web6)
	c["type"] = "bowline-ipam"
	f.used["web"] = c // its marks go with the last GC
	v := &victim{faults: f, c: c, keep: keep, box: f.sandbox("a"), plugin: "bowline-ipam"}
	for _, verb := range []string{"ADD", "DEL", "GC"} { // brings marks of the allocator
		v.must(verb)
	}
	for _, verb := range []string{"ADD", "DEL", "CHECK", "STATUS", "GC"} {
		v.killEach(verb, "alone")
	}
}

// delegatedKilled kills the plugin and the reference's IPAM plugin that it runs.
func delegatedKilled(f *faults) {
	f.bystanders(allOn("db", db4, db6))
	c := allOn("web", web4, web6).ipam("type", "host-local").ipam("dataDir", f.dir+"/cni")
	v := &victim{faults: f, c: c, box: f.sandbox("a"), plugin: "with host-local", step: 5}
	for _, verb := range []string{"ADD", "DEL"} {
		v.killEach(verb, "first of its network")
	}
}

// nicKilled kills the plugin that moves a NIC of the host. It is never stranded:
// whoever comes next, of those who have to, puts it back as it was.
func nicKilled(f *faults) {
	f.nic("nic0")
	c := deviceNetwork("lan", "nic0", "198.51.100.0/24").with("mtu", 1300).
		with("policy", []any{"deny egress tcp 25"}).
		with("runtimeConfig", map[string]any{"bandwidth": map[string]any{"egressRate": 1e9}})
	f.used["lan"] = c // its marks go with the last GC
	v := &victim{faults: f, c: c, box: f.sandbox("a"), plugin: "bowline-host", step: 2}
	for _, verb := range []string{"ADD", "DEL", "CHECK", "STATUS", "GC"} {
		v.killEach(verb, "that has a NIC of the host")
	}
}
