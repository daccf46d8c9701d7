package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) stats() *cobra.Command {
	var watch bool
	var interval time.Duration
	c := &cobra.Command{
		Use:   "stats [--watch [--interval TIME]]",
		Short: "show what passed each attachment",
		Long: "stats shows what passed each attachment, seen from the container: bytes, packets,\n" +
			"packets dropped, and packets that its policy denied, whichever engine attached it.\n" +
			"With --watch it goes on and shows what passes per second; with --json too it prints\n" +
			"an array of rows per line",
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval <= 0 {
				return usageError{fmt.Errorf("--interval %s: want a time such as 1s", interval)}
			}
			ctx, r := cmd.Context(), a.runtime()
			if !watch {
				rows, err := r.Stats(ctx)
				return errors.Join(err, a.print(list(rows), func(w io.Writer) { printTotals(w, rows) }))
			}
			tick := time.NewTicker(interval)
			defer tick.Stop()
			var before sample
			for {
				rows, err := r.Stats(ctx)
				if err != nil && ctx.Err() == nil {
					fmt.Fprintf(a.stderr, "bowline stats: %v\n", err)
				}
				now := sample{time.Now(), rows}
				if before.rows != nil || a.json {
					if err := a.printSample(before, now); err != nil {
						return err
					}
				}
				before = now
				select {
				case <-ctx.Done():
					return nil
				case <-tick.C:
				}
			}
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and show what passes per second")
	c.Flags().DurationVar(&interval, "interval", time.Second, "`TIME` between two looks")
	return c
}

// A sample is what the counters were at a time. Its rows are not nil.
type sample struct {
	at   time.Time
	rows []runtime.Stat
}

func printTotals(w io.Writer, rows []runtime.Stat) {
	fmt.Fprintf(w, "NETWORK\tCONTAINER\tLINK\tRECEIVED\tPACKETS\tDROPS\tSENT\tPACKETS\tDROPS\tDENIED\n")
	for _, s := range rows {
		fmt.Fprintf(w, "%.24s\t%.32s\t%s\t%s\t%d\t%d\t%s\t%d\t%d", s.Network, s.Container, cmp.Or(s.Interface, "-"),
			size(float64(s.ReceivedBytes)), s.ReceivedPackets, s.ReceivedDrops, size(float64(s.SentBytes)), s.SentPackets, s.SentDrops)
		if n, any := denied(s); any {
			fmt.Fprintf(w, "\t%d\n", n)
		} else {
			fmt.Fprint(w, "\t-\n")
		}
	}
}

// denied returns how many packets the attachment's policy has denied; any is
// false if it has none.
func denied(s runtime.Stat) (n uint64, any bool) {
	for _, p := range s.Policy {
		if strings.HasPrefix(p.Rule, "deny ") {
			n += p.Packets
		}
	}
	return n, len(s.Policy) > 0
}

// printSample prints what passed from one look to the next: a screenful if
// somebody sits there, else a table after the other.
func (a *app) printSample(before, now sample) error {
	if a.json {
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		return e.Encode(list(now.rows))
	}
	if f, ok := a.stdout.(*os.File); ok {
		if s, err := f.Stat(); err == nil && s.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprint(a.stdout, "\x1b[H\x1b[J") // home, clear
		}
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	printRates(w, before, now)
	return w.Flush()
}

func printRates(w io.Writer, before, now sample) {
	seconds := now.at.Sub(before.at).Seconds()
	was := map[[3]string]runtime.Stat{}
	for _, s := range before.rows {
		was[[3]string{s.Driver, s.Network, s.ID}] = s
	}
	// A counter that went back is that of a new link under the old name.
	rate := func(before, now uint64) float64 {
		if now < before {
			before = 0
		}
		return float64(now-before) / seconds
	}
	fmt.Fprintf(w, "NETWORK\tCONTAINER\tLINK\tRECEIVED/s\tPACKETS/s\tDROPS/s\tSENT/s\tPACKETS/s\tDROPS/s\tDENIED/s\n")
	for _, s := range now.rows {
		b, known := was[[3]string{s.Driver, s.Network, s.ID}]
		fmt.Fprintf(w, "%.24s\t%.32s\t%s", s.Network, s.Container, cmp.Or(s.Interface, "-"))
		if !known {
			fmt.Fprint(w, "\t-\t-\t-\t-\t-\t-\t-\n")
			continue
		}
		fmt.Fprintf(w, "\t%s\t%.0f\t%.0f\t%s\t%.0f\t%.0f",
			size(rate(b.ReceivedBytes, s.ReceivedBytes)), rate(b.ReceivedPackets, s.ReceivedPackets), rate(b.ReceivedDrops, s.ReceivedDrops),
			size(rate(b.SentBytes, s.SentBytes)), rate(b.SentPackets, s.SentPackets), rate(b.SentDrops, s.SentDrops))
		before, _ := denied(b)
		if n, any := denied(s); any {
			fmt.Fprintf(w, "\t%.0f\n", rate(before, n))
		} else {
			fmt.Fprint(w, "\t-\n")
		}
	}
}

// size writes a number of bytes with three digits, in units of 1000.
func size(bytes float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	i := 0
	for bytes >= 999.5 && i < len(units)-1 {
		bytes /= 1000
		i++
	}
	if i == 0 || bytes >= 99.95 {
		return fmt.Sprintf("%.0f %s", bytes, units[i])
	}
	return fmt.Sprintf("%.1f %s", bytes, units[i])
}
