package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// crowdKilled has 64 containers come and go at once, and kills most of their
// ADD and DEL at a random moment.
func crowdKilled(f *faults) { f.crowdKilled(allOn("web", web4, web6)) }

func (f *faults) crowdKilled(c conf) {
	keep := f.bystanders(c)
	var boxes []*sandbox
	for i := range 64 {
		boxes = append(boxes, f.sandbox(fmt.Sprint("c", i)))
	}
	all := func(verb string) (took time.Duration) {
		start := time.Now()
		each(boxes, func(_ int, s *sandbox) {
			if _, err := f.cni(c, call{verb: verb, id: s.id, netns: s.path, ifname: "eth0"}); err != nil {
				f.t.Errorf("%s %s: %v", verb, s.id, err)
			}
		})
		return time.Since(start)
	}
	span := map[string]time.Duration{"ADD": all("ADD"), "DEL": all("DEL")}
	if err := f.gc(c, keep); err != nil || f.t.Failed() {
		f.t.Fatalf("GC: %v", err)
	}
	before := f.whole()
	rounds := 1
	if longFaults() {
		rounds = 20
	}
	for range rounds {
		var killed [2]atomic.Int64
		each(boxes, func(_ int, s *sandbox) {
			for i, verb := range []string{"ADD", "DEL"} {
				_, err := f.cni(c, call{verb: verb, id: s.id, netns: s.path, ifname: "eth0", started: func(kill func()) {
					timer := time.NewTimer(rand.N(span[verb]))
					<-timer.C
					kill()
				}})
				switch {
				case code(err) < 0:
					killed[i].Add(1)
				case err != nil:
					f.t.Errorf("%s %s, not killed: %v", verb, s.id, err)
				}
			}
		})
		if err := f.gc(c, keep); err != nil {
			f.t.Fatalf("GC after the crowd: %v", err)
		}
		for _, s := range boxes {
			s.empty("after the crowd and GC")
		}
		if d := diff(before, f.whole()); d != "" {
			f.t.Fatalf("after the crowd and GC:\n%s", d)
		}
		f.report.add("64 ADD at once, killed at random"+f.where(c), "GC", int(killed[0].Load()))
		f.report.add("64 DEL at once, killed at random"+f.where(c), "GC", int(killed[1].Load()))
	}
	all("ADD") // everybody gets an address again
	all("DEL")
}

// poolFull asks for more addresses than there are, one after the other and at
// once.
func poolFull(f *faults) {
	c := allOn("web", "10.1.0.0/29", web6) // five addresses, of which two are taken
	keep := f.bystanders(c)
	for i := range 3 {
		s := f.sandbox(fmt.Sprint("f", i))
		s.add(c)
		keep = append(keep, s.id+"/eth0")
	}
	if err := f.gc(c, keep); err != nil {
		f.t.Fatal(err)
	}
	before := f.whole()
	var boxes []*sandbox
	for i := range 16 {
		boxes = append(boxes, f.sandbox(fmt.Sprint("c", i)))
	}
	before["mount"] = f.mounts()
	full := func(_ int, s *sandbox) {
		if _, err := s.tryAdd(c); code(err) != 11 {
			f.t.Errorf("ADD to a full pool: %v; want code 11", err)
		}
		s.empty("after ADD to a full pool")
	}
	for i, s := range boxes {
		full(i, s)
	}
	each(boxes, full)
	if d := diff(before, f.whole()); d != "" {
		f.t.Fatalf("ADD to a full pool:\n%s", d)
	}
	f.report.add("pool of addresses full", "nothing: ADD has cleared up by itself", 2*len(boxes))
	if err := f.gc(c, keep[:4]); err != nil { // one goes
		f.t.Fatal(err)
	}
	boxes[0].add(c)
	boxes[0].del(c, result{})
}
