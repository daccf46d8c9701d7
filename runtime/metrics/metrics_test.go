package metrics_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/meter"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/runtime"
	"github.com/bowline-net/bowline/runtime/metrics"
)

// scrape returns the metrics of a host whose plugins are shell scripts, and what
// was logged.
func scrape(t *testing.T, scripts map[string]string) (text, log string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("BOWLINE_CNI_PATH", dir)
	var out, logged bytes.Buffer
	if err := metrics.Write(&out, metrics.New(runtime.New(nil), "v1", slog.New(slog.NewTextHandler(&logged, nil)))); err != nil {
		t.Fatalf("%v in\n%s", err, out.String())
	}
	return out.String(), logged.String()
}

const row = `{"driver":"bridge","network":"web","container":"ns/pod","interface":"eth0","engine":"cni","id":"ID/eth0","receivedBytes":12,"sentDrops":3,` +
	`"policy":[{"rule":"deny egress","packets":4},{"rule":"deny egress","packets":5}]}`

func TestCollect(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	m, err := meter.Open(state.MeterFile("bridge"))
	if err != nil {
		t.Fatal(err)
	}
	for _, took := range []time.Duration{500 * time.Microsecond, 3 * time.Millisecond, time.Minute} {
		m.Add(meter.Op{Face: "cni", Verb: "ADD", Code: 0}, took)
	}
	if err := os.WriteFile(state.MeterFile("old.damaged"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Two pods of one name for a while, a rule twice, and bytes that are no text.
	text, log := scrape(t, map[string]string{
		"bowline-bridge": `[ $1 = stats ] || exit 4; echo '` + row + `'; echo '` + strings.Replace(row, "ID/", "other\xff/", 1) + `'`,
		"bowline-ipam":   `[ $1 = pools ] || exit 4; echo '{"network":"web","ranges":"10.1.0.2-10.1.0.6","used":2,"free":2,"resting":1,"quarantined":1}'`,
	})
	labels := `container="ns/pod",driver="bridge",engine="cni",id="ID/eth0",interface="eth0",network="web"`
	for _, want := range []string{
		"bowline_attachment_receive_bytes_total{" + labels + "} 12",
		"bowline_attachment_transmit_drops_total{" + labels + "} 3",
		"bowline_policy_packets_total{" + labels + `,rule="deny egress"} 4`,
		"bowline_policy_packets_total{" + labels + `,rule="deny egress (2)"} 5`,
		`bowline_pool_addresses{network="web",ranges="10.1.0.2-10.1.0.6",state="free"} 1`,
		`bowline_pool_addresses{network="web",ranges="10.1.0.2-10.1.0.6",state="quarantined"} 1`,
		`bowline_pool_addresses{network="web",ranges="10.1.0.2-10.1.0.6",state="resting"} 1`,
		`bowline_operation_duration_seconds_bucket{code="0",driver="bridge",face="cni",verb="ADD",le="0.001"} 1`,
		`bowline_operation_duration_seconds_bucket{code="0",driver="bridge",face="cni",verb="ADD",le="0.003"} 2`,
		`bowline_operation_duration_seconds_bucket{code="0",driver="bridge",face="cni",verb="ADD",le="+Inf"} 3`,
		"bowline_scrape_complete 1", `bowline_build_info{version="v1"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if log != "" {
		t.Errorf("logged: %s", log)
	}
}

// A plugin that fails hides nothing else, and is told.
func TestCollectFailure(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	text, log := scrape(t, map[string]string{
		"bowline-bridge": `[ $1 = stats ] || exit 4; echo '` + row + `'`,
		"bowline-other":  `[ $1 = stats ] || exit 4; echo 'bowline-other stats: no kernel' >&2; exit 1`,
	})
	if !strings.Contains(text, "bowline_attachment_receive_bytes_total{") || !strings.Contains(text, "bowline_scrape_complete 0\n") {
		t.Errorf("metrics are\n%s", text)
	}
	if !strings.Contains(log, "no kernel") {
		t.Errorf("log is %s", log)
	}
}
