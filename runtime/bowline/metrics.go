package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/runtime/metrics"
)

func (a *app) metrics() *cobra.Command {
	var listen string
	var once bool
	c := &cobra.Command{
		Use:   "metrics [--listen ADDR | --once]",
		Short: "serve what the plugins count to Prometheus",
		Long: "metrics serves what all plugins of this host count at http://ADDR/metrics: what passed\n" +
			"each attachment, what met its policy, how long operations took and how they ended,\n" +
			"and how many addresses are taken. With --once it prints it, for a textfile collector.\n" +
			"\"bowline-bridge serve -metrics ADDR\" runs it beside the Docker plugin",
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := journal.New(a.stderr, nil)
			collector := metrics.New(a.runtime(), version, log)
			if once {
				return metrics.Write(a.stdout, collector)
			}
			l, err := metrics.Listen(cmd.Context(), listen)
			if err != nil {
				return fmt.Errorf("--listen %s: %w", listen, err)
			}
			log.Info("serving metrics", "at", l.Addr().String())
			return metrics.Serve(cmd.Context(), l, collector)
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:9477", "`ADDR` such as 127.0.0.1:9477, :9477 or unix:PATH")
	c.Flags().BoolVar(&once, "once", false, "print the metrics and end")
	return c
}
