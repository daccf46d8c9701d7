// Package metrics tells Prometheus what the plugins of this host count. Each
// scrape asks them anew, so what is gone is gone from the answer too, and there
// are as many series as there are attachments.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/meter"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/runtime"
)

// patience is how long the plugins may take to answer a scrape: as long as
// Prometheus waits by default.
const patience = 10 * time.Second

// A Collector is a [prometheus.Collector] of all that the plugins count.
type Collector struct {
	rt      *runtime.Runtime
	log     *slog.Logger
	version string

	received, sent             direction
	policyBytes, policyPackets *prometheus.Desc
	pools                      *prometheus.Desc
	duration                   *prometheus.Desc
	complete, build            *prometheus.Desc
}

// A direction is what is counted of packets that go one way.
type direction struct{ bytes, packets, drops *prometheus.Desc }

// New returns the collector of this host. What cannot be collected is told to log.
func New(rt *runtime.Runtime, version string, log *slog.Logger) *Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("bowline_"+name, help, labels, nil)
	}
	attachment := []string{"network", "container", "interface", "engine", "driver", "id"}
	rule := append([]string{"rule"}, attachment...)
	way := func(name, verb string) direction {
		return direction{
			desc("attachment_"+name+"_bytes_total", "Bytes that the container has "+verb+".", attachment...),
			desc("attachment_"+name+"_packets_total", "Packets that the container has "+verb+".", attachment...),
			desc("attachment_"+name+"_drops_total", "Packets that were dropped instead of being "+verb+".", attachment...),
		}
	}
	return &Collector{
		rt: rt, log: log, version: version,
		received: way("receive", "received"),
		sent:     way("transmit", "sent"),

		policyBytes:   desc("policy_bytes_total", "Bytes of packets that met a rule of the attachment's policy.", rule...),
		policyPackets: desc("policy_packets_total", "Packets that met a rule of the attachment's policy.", rule...),

		pools:    desc("pool_addresses", "Addresses of a network, by state: used, resting (released lately), quarantined (others use them) or free.", "network", "ranges", "state"),
		duration: desc("operation_duration_seconds", "How long operations of engines took, by the code that CNI has for how they ended; 0: done.", "driver", "face", "verb", "code"),
		complete: desc("scrape_complete", "1 if all plugins answered this scrape, else 0."),
		build:    desc("build_info", "1; the version of bowline.", "version"),
	}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.received.bytes, c.received.packets, c.received.drops, c.sent.bytes, c.sent.packets, c.sent.drops,
		c.policyBytes, c.policyPackets, c.pools, c.duration, c.complete, c.build,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	complete := 1.0
	for _, part := range []func(context.Context, chan<- prometheus.Metric) error{c.attachments, c.addresses, c.operations} {
		if err := part(ctx, ch); err != nil {
			c.log.Warn("metrics are not complete", "error", err)
			complete = 0
		}
	}
	if ctx.Err() != nil {
		complete = 0
	}
	ch <- prometheus.MustNewConstMetric(c.complete, prometheus.GaugeValue, complete)
	ch <- prometheus.MustNewConstMetric(c.build, prometheus.GaugeValue, 1, c.version)
}

func (c *Collector) attachments(ctx context.Context, ch chan<- prometheus.Metric) error {
	rows, err := c.rt.Stats(ctx)
	for _, s := range rows {
		labels := valid(s.Network, s.Container, s.Interface, s.Engine, s.Driver, s.ID)
		count := func(d *prometheus.Desc, v uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
		}
		count(c.received.bytes, s.ReceivedBytes, labels...)
		count(c.received.packets, s.ReceivedPackets, labels...)
		count(c.received.drops, s.ReceivedDrops, labels...)
		count(c.sent.bytes, s.SentBytes, labels...)
		count(c.sent.packets, s.SentPackets, labels...)
		count(c.sent.drops, s.SentDrops, labels...)
		seen := map[string]int{}
		for _, p := range s.Policy {
			rule := p.Rule
			if seen[p.Rule]++; seen[p.Rule] > 1 { // the same rule twice is two series
				rule += fmt.Sprintf(" (%d)", seen[p.Rule])
			}
			labels := append(valid(rule), labels...)
			count(c.policyBytes, p.Bytes, labels...)
			count(c.policyPackets, p.Packets, labels...)
		}
	}
	return err
}

// valid makes values of labels of texts.
func valid(texts ...string) []string {
	for i, t := range texts {
		texts[i] = strings.ToValidUTF8(t, "?")
	}
	return texts
}

func (c *Collector) addresses(ctx context.Context, ch chan<- prometheus.Metric) error {
	pools, err := c.rt.Pools(ctx)
	if errors.Is(err, bowline.ErrUnknown) { // our allocator is not used here
		return nil
	}
	for _, p := range pools {
		for state, v := range map[string]uint64{"used": p.Used, "resting": p.Resting, "free": p.Free - min(p.Free, p.Resting), "quarantined": p.Quarantined} {
			ch <- prometheus.MustNewConstMetric(c.pools, prometheus.GaugeValue, float64(v), valid(p.Network, p.Ranges, state)...)
		}
	}
	return err
}

// operations reads what the processes of the plugins have counted together.
func (c *Collector) operations(_ context.Context, ch chan<- prometheus.Metric) error {
	files, err := filepath.Glob(state.MeterFile("*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		driver := filepath.Base(f)
		if strings.Contains(driver, ".") { // one that was set aside
			continue
		}
		all, rerr := meter.Read(f)
		if rerr != nil && !os.IsNotExist(rerr) {
			err = rerr
		}
		for _, s := range all {
			buckets, sum := map[float64]uint64{}, uint64(0)
			for i, b := range meter.Bounds() {
				sum += s.Counts[i]
				buckets[b.Seconds()] = sum
			}
			ch <- prometheus.MustNewConstHistogram(c.duration, s.Count(), s.Sum.Seconds(), buckets, driver, s.Face, s.Verb, strconv.Itoa(s.Code))
		}
	}
	return err
}
