package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bowline-net/bowline/runtime"
)

// rounds is how often every sandbox is detached and attached again.
const rounds = 5

// A Timing sums up how long one operation took, in milliseconds.
type Timing struct {
	Count  int     `json:"count"`
	Median float64 `json:"medianMs"`
	Min    float64 `json:"minMs"`
	Max    float64 `json:"maxMs"`
}

func (t Timing) String() string {
	return fmt.Sprintf("median %5.1f ms   min %5.1f   max %5.1f   (%d times)", t.Median, t.Min, t.Max, t.Count)
}

// timing sums up took, which must not be empty.
func timing(took []time.Duration) Timing {
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	median := (took[(len(took)-1)/2] + took[len(took)/2]) / 2
	return Timing{Count: len(took), Median: ms(median), Min: ms(took[0]), Max: ms(took[len(took)-1])}
}

// measure detaches and attaches the sandboxes again and again.
func (d *demo) measure(ctx context.Context) error {
	var attach, detach []time.Duration
	for range rounds {
		for _, m := range d.report.Sandboxes {
			began := time.Now()
			if err := d.rt.Disconnect(ctx, prefix+m.Name, prefix+m.Network, ""); err != nil {
				return err
			}
			detached := time.Now()
			c := runtime.ConnectSpec{Sandbox: prefix + m.Name, Network: prefix + m.Network}
			if _, err := d.rt.Connect(ctx, c); err != nil {
				return err
			}
			detach = append(detach, detached.Sub(began))
			attach = append(attach, time.Since(detached))
		}
	}
	d.report.Attach, d.report.Detach = timing(attach), timing(detach)
	d.say("\nHow long it takes, with records and the start of the plugin's process:\n")
	d.say("  attach   %v\n  detach   %v", d.report.Attach, d.report.Detach)
	return nil
}
