package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// A statRow is a line of "bowline stats --json" as users read it.
type statRow struct {
	Driver, Network, Container, Interface, Engine string
	ReceivedBytes, ReceivedPackets                uint64
	SentBytes, SentPackets                        uint64
}

func (h *host) stats() []statRow {
	h.t.Helper()
	var rows []statRow
	if err := json.Unmarshal([]byte(h.bowline("stats", "--json")), &rows); err != nil {
		h.t.Fatal(err)
	}
	return rows
}

// Attachments of every engine are counted, under the names that people gave;
// those that are gone are not.
func TestStats(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web")
	h.bowline("sandbox", "create", "one", "two")
	h.bowline("connect", "one", "web")
	two := addrs(h.bowline("connect", "two", "web"))[0]
	before := h.stats()
	if len(before) != 2 || before[0].Container != "one" || before[1].Container != "two" || before[0].Engine != "bowline" ||
		before[0].Network != "web" || before[0].Interface != "eth0" || before[0].Driver != "bridge" {
		t.Fatalf("stats: %+v", before)
	}
	h.bowline("sandbox", "exec", "one", "ping", "-n", "-c", "5", "-i", "0.05", "-s", "1000", "-W", "2", two)
	for i, after := range h.stats() {
		const least = 5 * 1028
		if after.SentBytes-before[i].SentBytes < least || after.ReceivedBytes-before[i].ReceivedBytes < least ||
			after.SentPackets-before[i].SentPackets < 5 || after.ReceivedPackets-before[i].ReceivedPackets < 5 {
			t.Errorf("five pings of 1000 bytes, but the counters went from %+v to %+v", before[i], after)
		}
	}
	if out := h.bowline("stats"); !strings.Contains(out, "NETWORK") || strings.Count(out, "\n") != 3 {
		t.Errorf("stats:\n%s", out)
	}
	watch := h.command(bin("bowline"), "stats", "--watch", "--interval", "100ms", "--json")
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.do(watch.Start); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(out)
	for range 3 {
		var rows []statRow
		if err := d.Decode(&rows); err != nil || len(rows) != 2 {
			t.Errorf("stats --watch --json: %v, %+v", err, rows)
		}
	}
	_ = watch.Process.Signal(os.Interrupt)
	if err := watch.Wait(); err != nil {
		t.Errorf("stats --watch ended by Ctrl-C: %v", err)
	}
	h.bowline("sandbox", "rm", "one")
	if rows := h.stats(); len(rows) != 1 || rows[0].Container != "two" {
		t.Errorf("stats after one is gone: %+v", rows)
	}
	h.bowline("sandbox", "rm", "two")
	h.bowline("network", "rm", "web")
}
