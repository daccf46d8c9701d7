package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRepairRacesDel: what a DEL removes while a repair makes it again stays
// removed, whichever of them is first; and a container that is attached again
// right away has its network.
func TestRepairRacesDel(t *testing.T) {
	t.Parallel()
	h := newBrokenHost(t, repairConf().with("macspoofchk", true))
	before, elements := h.links(), h.elements()
	h.watch()
	s := h.sandbox("c")
	for i := range 40 {
		r := s.add(h.conf)
		outer := r.Interfaces[1].Name
		switch i % 3 {
		case 0:
			h.run("ip", "link", "del", outer)
		case 1:
			h.run("nft", "flush", "ruleset")
		case 2:
			h.run("ip", "link", "del", "br-web")
		}
		// The repair begins some 30 ms after the harm, and takes some 10.
		<-time.After(time.Duration(20+i) * time.Millisecond)
		s.del(h.conf, r)
		if out, err := h.try("ip", "link", "show", outer); err == nil {
			t.Fatalf("round %d: DEL left %s", i, out)
		}
	}
	s.add(h.conf)
	if !s.reaches("192.0.2.2") {
		t.Error("what was attached last does not reach out")
	}
	s.del(h.conf, result{})
	eventually(t, h.whole)
	eventually(t, func() error {
		if after := h.links(); !slices.Equal(after, before) {
			return fmt.Errorf("the host has the links %q, had %q", after, before)
		}
		if after := h.elements(); after != elements {
			return fmt.Errorf("the host has the elements %s, had %s", after, elements)
		}
		return nil
	})
	if err := h.line.echo(); err != nil {
		t.Errorf("b's connection: %v", err)
	}
}

// elements lists the ports whose senders are checked.
func (h *host) elements() string {
	h.t.Helper()
	var all []string
	for _, w := range strings.Fields(h.run("nft", "list", "set", "bridge", "bowline", "guarded")) {
		if strings.HasPrefix(w, `"bwo`) {
			all = append(all, w)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
