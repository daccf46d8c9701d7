package main

import (
	"bytes"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/runtime"
)

func TestPrintRates(t *testing.T) {
	t.Parallel()
	row := func(id string, received, sent uint64) runtime.Stat {
		return runtime.Stat{Driver: "bridge", Network: "web", Container: id, ID: id + "/eth0", Interface: "eth0", Counts: bowline.Counts{
			ReceivedBytes: received, ReceivedPackets: received / 100, SentBytes: sent, SentPackets: sent / 100,
		}}
	}
	start := time.Now()
	before := sample{start, []runtime.Stat{row("one", 1000, 0), row("anew", 1000, 1000), row("gone", 1, 1)}}
	now := sample{start.Add(2 * time.Second), []runtime.Stat{row("one", 5_001_000, 2400), row("anew", 600, 0), row("young", 1, 1)}}
	before.rows[0].Policy = []bowline.PolicyCount{{Rule: "deny egress tcp 25", Packets: 3}, {Rule: "otherwise allow egress", Packets: 9}}
	now.rows[0].Policy = []bowline.PolicyCount{{Rule: "deny egress tcp 25", Packets: 7}, {Rule: "otherwise allow egress", Packets: 99}}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	printRates(w, before, now)
	w.Flush()
	want := strings.TrimLeft(`
NETWORK  CONTAINER  LINK  RECEIVED/s  PACKETS/s  DROPS/s  SENT/s  PACKETS/s  DROPS/s  DENIED/s
web      one        eth0  2.5 MB      25000      0        1.2 kB  12         0        2
web      anew       eth0  300 B       3          0        0 B     0          0        -
web      young      eth0  -           -          -        -       -          -        -
`, "\n")
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[float64]string{0: "0 B", 999: "999 B", 999.6: "1.0 kB", 1500: "1.5 kB", 99_940: "99.9 kB", 99_960: "100 kB", 2e18: "2.0 EB"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%g) is %q, want %q", bytes, got, want)
		}
	}
}
