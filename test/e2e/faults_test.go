package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// longFaults reports whether everything is to be tried, not a part of it that
// differs in nothing but its turn. docs/reliability.md is of such a run.
func longFaults() bool { return os.Getenv("BOWLINE_FAULTS") == "long" }

// TestFaults breaks everything that can break around an attachment. Each time
// nothing is left that DEL or GC do not clear, and nobody else loses a packet.
// With -v it prints the table of docs/reliability.md.
func TestFaults(t *testing.T) {
	if reference() {
		t.Skip("the reference plugins do not claim this")
	}
	r := &faultReport{times: map[faultRow]int{}}
	t.Cleanup(func() { t.Log("\n" + r.table()) })
	for _, f := range []struct {
		name string
		run  func(f *faults)
	}{
		{"CNI killed at the first container", cniKilledFirst},
		{"CNI killed at a further container", cniKilledFurther},
		{"IPAM killed", ipamKilled},
		{"NIC killed", nicKilled},
		{"delegated IPAM killed", delegatedKilled},
		{"things gone", cniLosses},
		{"strangers", strangersThings},
		{"runtime killed", runtimeKilled},
		{"Docker plugin killed", cnmKilled},
		{"crowd killed", crowdKilled},
		{"clock wrong", clockWrong},
		{"pool full", poolFull},
		{"disk full", diskFull},
		{"disk read-only", diskReadOnly},
		{"disks of the command line", runtimeDisk},
		{"disks of the Docker plugin", cnmDisk},
		{"LAN: killed at the first container", lanKilledFirst},
		{"LAN: killed at a further container", lanKilledFurther},
		{"LAN: things gone", lanLosses},
		{"LAN: strangers", lanStrangers},
		{"LAN: crowd killed", func(f *faults) { f.crowdKilled(allOnLAN("web", web4, web6).with("host-access", true)) }},
		{"LAN: clock wrong", func(f *faults) {
			f.clockWrong(allOnLAN("web", web4, web6).with("host-access", true).ipam("ranges", []any{
				[]any{map[string]any{"subnet": web4, "rangeEnd": "10.1.0.6"}}, []any{map[string]any{"subnet": web6}},
			}))
		}},
		{"LAN: disk full", func(f *faults) { f.diskFull(allOnLAN("web", web4).with("host-access", true)) }},
		{"LAN: disk read-only", func(f *faults) { f.diskReadOnly(allOnLAN("web", web4).with("host-access", true)) }},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			host := newHost
			if strings.HasPrefix(f.name, "LAN") {
				host = newLANHost
			}
			f.run(&faults{host: host(t), report: r})
		})
	}
}

// A faultReport counts what was done.
type faultReport struct {
	mu                  sync.Mutex
	times               map[faultRow]int
	streams             int
	sent, lost, flooded int64
}

// A faultRow is one line of the table: what went wrong, and what was done then.
type faultRow struct{ what, then string }

func (r *faultReport) add(what, then string, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times[faultRow{what, then}] += times
}

func (r *faultReport) packets(sent, lost, flooded int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams++
	r.sent, r.lost, r.flooded = r.sent+sent, r.lost+lost, r.flooded+flooded
}

// table returns what was counted, as Markdown that hack/faults.sh reads.
func (r *faultReport) table() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	then, times, all := map[string][]string{}, map[string]int{}, 0
	for row, n := range r.times {
		then[row.what] = append(then[row.what], row.then)
		times[row.what] += n
		all += n
	}
	var b strings.Builder
	b.WriteString("| what went wrong | what was done then | times |\n|---|---|---:|\n")
	for _, what := range slices.Sorted(maps.Keys(then)) {
		slices.Sort(then[what])
		fmt.Fprintf(&b, "| %s | %s | %d |\n", what, strings.Join(then[what], "; or "), times[what])
	}
	fmt.Fprintf(&b, "| **all** | | **%d** |\n\nMeanwhile %d streams between other containers, and from them to outside, sent %d packets. Lost: %d.\n", all, r.streams, r.sent, r.lost)
	if r.flooded > 0 {
		fmt.Fprintf(&b, "%d more were lost while the machine's queue for all namespaces overflowed: it was busy with something else.\n", r.flooded)
	}
	return b.String()
}
