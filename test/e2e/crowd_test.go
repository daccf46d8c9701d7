package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestCrowd: sixteen processes at a time on one network. No address is given
// twice, everybody is reachable, nothing stays.
func TestCrowd(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.network("web", web4, web6)
		const parallel, rounds = 16, 4
		var boxes []*sandbox
		for i := range parallel {
			boxes = append(boxes, h.sandbox(fmt.Sprint("c", i)))
		}
		for round := range rounds {
			results := make([]result, parallel)
			each(boxes, func(i int, s *sandbox) {
				var err error
				if results[i], err = s.tryAdd(c); err != nil {
					t.Errorf("round %d: ADD %s: %v", round, s.id, err)
				}
			})
			if t.Failed() {
				return
			}
			owner := map[string]string{}
			for i, r := range results {
				for _, ip := range r.IPs {
					if other := owner[ip.Address.String()]; other != "" {
						t.Fatalf("round %d: %v was given to %s and %s", round, ip.Address, other, boxes[i].id)
					}
					owner[ip.Address.String()] = boxes[i].id
				}
			}
			last := results[parallel-1]
			for _, s := range boxes[:parallel-1] {
				if !s.reaches(last.addr("6")) {
					t.Errorf("round %d: %s does not reach %s", round, s.id, boxes[parallel-1].id)
				}
			}
			each(boxes, func(i int, s *sandbox) {
				if err := s.tryDel(c.with("prevResult", results[i].raw), s.path); err != nil {
					t.Errorf("round %d: DEL %s: %v", round, s.id, err)
				}
			})
			h.expectNoEndpoint()
		}
	})
}

// each calls f for all sandboxes at once and waits.
func each(boxes []*sandbox, f func(i int, s *sandbox)) {
	var wg sync.WaitGroup
	for i, s := range boxes {
		wg.Go(func() { f(i, s) })
	}
	wg.Wait()
}

// TestCrowdOfNetworks: networks come and go beside each other.
func TestCrowdOfNetworks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var boxes []*sandbox
	for i := range 8 {
		boxes = append(boxes, h.sandbox(fmt.Sprint("c", i)))
	}
	each(boxes, func(i int, s *sandbox) {
		c := network(fmt.Sprint("n", i), fmt.Sprintf("10.%d.0.0/24", i+1), fmt.Sprintf("fd00:%d::/64", i+1))
		for range 4 {
			r, err := s.tryAdd(c)
			if err != nil {
				t.Errorf("ADD to n%d: %v", i, err)
				return
			}
			if !s.reaches(r.gateway("4")) {
				t.Errorf("no answer from the gateway of n%d", i)
			}
			if err := s.tryDel(c, s.path); err != nil {
				t.Errorf("DEL from n%d: %v", i, err)
			}
			if i%2 == 0 {
				if err := h.gc(c, []string{}); err != nil {
					t.Errorf("GC of n%d: %v", i, err)
				}
			}
		}
	})
}

// TestKill: processes die at random points of 200 ADD and DEL; GC with an
// empty list then leaves nothing, and all addresses can be had again.
func TestKill(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		c := k.guarded(k.network("web", "10.1.0.0/29", web6)) // five addresses
		before := h.snapshot()
		span := h.undisturbed(c)
		seed := rand.Uint64()
		t.Logf("seed %d, killing within %v", seed, span)
		rnd := rand.New(rand.NewPCG(seed, 0))
		killed := 0
		for i := range 200 {
			s := h.sandbox(fmt.Sprint("k", i))
			for _, verb := range []string{"ADD", "DEL"} {
				after := time.Duration(rnd.Int64N(int64(span[verb])))
				_, err := h.cni(c, call{verb: verb, id: s.id, netns: s.path, ifname: "eth0", started: func(kill func()) {
					timer := time.NewTimer(after)
					<-timer.C
					kill()
				}})
				if err != nil && code(err) < 0 {
					killed++
				}
			}
			s.end() // the container is gone in any case
			if i%20 == 19 {
				if err := h.gc(c, []string{}); err != nil {
					t.Fatalf("GC after kill %d: %v", killed, err)
				}
				if d := diff(before, h.snapshot()); d != "" {
					t.Fatalf("left after %d kills and GC:\n%s", killed, d)
				}
			}
		}
		if killed < 50 {
			t.Errorf("only %d of 400 processes died, the test proves little", killed)
		}
		for i := range 5 {
			h.sandbox(fmt.Sprint("f", i)).add(c) // every address of the pool
		}
	})
}

// undisturbed returns how long ADD and DEL take at best, to kill within.
func (h *host) undisturbed(c conf) map[string]time.Duration {
	h.t.Helper()
	span := map[string]time.Duration{"ADD": time.Minute, "DEL": time.Minute}
	s := h.sandbox("undisturbed")
	for range 5 {
		start := time.Now()
		r := s.add(c)
		added := time.Now()
		s.del(c, r)
		span["ADD"] = min(span["ADD"], added.Sub(start))
		span["DEL"] = min(span["DEL"], time.Since(added))
	}
	s.end()
	return span
}
