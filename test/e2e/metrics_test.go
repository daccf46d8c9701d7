package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape asks at the unix socket, as soon as it is there, as Prometheus would.
func scrape(t *testing.T, path string) map[string]*dto.MetricFamily {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer c.CloseIdleConnections()
	var body []byte
	eventually(t, func() error {
		resp, err := c.Get("http://bowline/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s: %s", resp.Status, body)
		}
		return err
	})
	return parseMetrics(t, body)
}

func parseMetrics(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return families
}

// find returns the metrics of a family whose labels include the given
// name=value pairs.
func find(families map[string]*dto.MetricFamily, name string, labels ...string) []*dto.Metric {
	var found []*dto.Metric
	for _, m := range families[name].GetMetric() {
		have := " "
		for _, l := range m.GetLabel() {
			have += l.GetName() + "=" + l.GetValue() + " "
		}
		all := true
		for _, l := range labels {
			all = all && strings.Contains(have, " "+l+" ")
		}
		if all {
			found = append(found, m)
		}
	}
	return found
}

// What the plugins count, Prometheus can read; what is gone is gone there too.
func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bowline("network", "create", "web", "--subnet", "10.8.0.0/29")
	h.bowline("sandbox", "create", "one", "two")
	h.bowline("connect", "one", "web")
	two := addrs(h.bowline("connect", "two", "web"))[0]
	h.bowline("sandbox", "exec", "one", "ping", "-n", "-c", "5", "-i", "0.05", "-s", "1000", "-W", "2", two)
	if _, err := h.sandbox("wrong").tryAdd(network("wrong").with("mut", "1400")); code(err) != 7 {
		t.Fatalf("ADD with a wrong option: %v", err)
	}
	shy := h.sandbox("shy")
	c := network("shy", "10.9.0.0/29").with("policy", []any{"deny egress udp 9"})
	shyResult := shy.add(c)
	send(t, shy.ns, net.JoinHostPort(shyResult.gateway("4"), "9"))
	socket := filepath.Join(h.dir, "metrics.sock")
	defer h.serve("bowline-bridge", "-metrics", "unix:"+socket)()
	got := scrape(t, socket)
	labels := []string{"network=web", "container=one", "interface=eth0", "engine=bowline", "driver=bridge"}
	for _, way := range []string{"receive", "transmit"} {
		b := find(got, "bowline_attachment_"+way+"_bytes_total", labels...)
		p := find(got, "bowline_attachment_"+way+"_packets_total", labels...)
		d := find(got, "bowline_attachment_"+way+"_drops_total", labels...)
		if len(b) != 1 || len(p) != 1 || len(d) != 1 || b[0].GetCounter().GetValue() < 5*1028 || p[0].GetCounter().GetValue() < 5 {
			t.Errorf("%s: bytes %v, packets %v, drops %v", way, b, p, d)
		}
	}
	if p := find(got, "bowline_policy_packets_total", "network=shy", "container=shy", "rule=deny egress udp 9", "engine=cni"); len(p) != 1 || p[0].GetCounter().GetValue() != 1 {
		t.Errorf("packets denied: %v", p)
	}
	for code, least := range map[string]uint64{"0": 2, "7": 1} {
		op := find(got, "bowline_operation_duration_seconds", "driver=bridge", "face=cni", "verb=ADD", "code="+code)
		if len(op) != 1 || op[0].GetHistogram().GetSampleCount() < least || op[0].GetHistogram().GetSampleSum() <= 0 {
			t.Errorf("ADD with code %s: %v", code, op)
		}
	}
	for state, want := range map[string]float64{"used": 2, "resting": 0, "free": 3} {
		if p := find(got, "bowline_pool_addresses", "network=web", "ranges=10.8.0.2-10.8.0.6", "state="+state); len(p) != 1 || p[0].GetGauge().GetValue() != want {
			t.Errorf("addresses that are %s: %v, want %g", state, p, want)
		}
	}
	if c := find(got, "bowline_scrape_complete"); len(c) != 1 || c[0].GetGauge().GetValue() != 1 {
		t.Errorf("scrape is not complete: %v", c)
	}
	h.bowline("sandbox", "rm", "one")
	got = scrape(t, socket)
	if gone, left := find(got, "bowline_attachment_receive_bytes_total", "container=one"), find(got, "bowline_attachment_receive_bytes_total"); len(gone) != 0 || len(left) != 2 {
		t.Errorf("one is gone, but its metrics are %v, and %d others are left", gone, len(left))
	}
	once := parseMetrics(t, []byte(h.bowline("metrics", "--once")))
	if len(once) != len(got) {
		t.Errorf("metrics --once has %d families, the server %d", len(once), len(got))
	}
	h.bowline("sandbox", "rm", "two")
	h.bowline("network", "rm", "web")
}

// serve starts a plugin's server on the host and returns what ends it and waits
// until it and all that it started are gone.
func (h *host) serve(plugin string, args ...string) (end func()) {
	h.t.Helper()
	cmd := h.command(bin(plugin), append([]string{"serve", "-log", "warn", "-socket", filepath.Join(h.dir, "plugin.sock")}, args...)...)
	cmd.Stderr = os.Stderr
	if err := h.do(cmd.Start); err != nil {
		h.t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			h.t.Errorf("%s serve: %v", plugin, err)
		}
	}
}

// The server of metrics is started again if it ends, and ends with the plugin,
// even if that is killed; without the command bowline the plugin says what it
// lacks.
func TestMetricsEnd(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	socket := filepath.Join(h.dir, "metrics.sock")
	cmd := h.command(bin("bowline-bridge"), "serve", "-log", "error", "-socket", filepath.Join(h.dir, "plugin.sock"), "-metrics", "unix:"+socket)
	if err := h.do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	scrape(t, socket)
	if n := len(h.processes()); n != 2 {
		t.Errorf("%d processes serve, want 2: %q", n, h.processes())
	}
	served := h.processes()
	for _, p := range served {
		var pid int
		if fmt.Sscan(p, &pid); pid != cmd.Process.Pid {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("kill %q: %v", p, err)
			}
		}
	}
	eventually(t, func() error {
		if now := h.processes(); len(now) != 2 || slices.Equal(now, served) {
			return fmt.Errorf("nobody serves again: %q", now)
		}
		return nil
	})
	scrape(t, socket)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, func() error {
		if left := h.processes(); len(left) > 0 {
			return fmt.Errorf("left after the plugin was killed: %q", left)
		}
		return nil
	})
	os.Remove(filepath.Join(h.dir, "plugin.sock"))

	alone := filepath.Join(h.dir, "alone")
	data, err := os.ReadFile(bin("bowline-bridge"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(alone, data, 0o755); err != nil {
		t.Fatal(err)
	}
	lonely := h.command(alone, "serve", "-metrics", "127.0.0.1:0", "-socket", filepath.Join(h.dir, "plugin.sock"))
	lonely.Env = append(lonely.Env, "PATH=/nonexistent")
	var out []byte
	err = h.do(func() (err error) {
		out, err = lonely.CombinedOutput()
		return err
	})
	if err == nil || !strings.Contains(string(out), "needs the command bowline") {
		t.Errorf("serve -metrics without bowline: %v: %s", err, out)
	}
}
