package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/runtime"
)

func (a *app) shape() *cobra.Command {
	var w runtime.Wanted
	var given [4]string
	c := &cobra.Command{
		Use:   "shape [flags] CONTAINER",
		Short: "limit what a container sends and receives",
		Long: "shape changes the limits of what a container receives (ingress) and sends (egress)\n" +
			"while it runs, whichever engine attached it, and prints what they are then. Without\n" +
			"a rate it only prints them. CONTAINER is a sandbox, the name or ID of a container,\n" +
			"the ID of a Docker endpoint, or an address; RATE is bit/s, such as 100mbit, or none",
		Args:              args("CONTAINER"),
		ValidArgsFunction: complete(a.sandboxNames),
		Example:           "  bowline shape one --ingress 100mbit --egress 20mbit\n  bowline shape 10.1.0.2 --egress 0",
		RunE: func(cmd *cobra.Command, names []string) error {
			w.Container = names[0]
			rates := map[string]string{}
			for i, flag := range rateFlags() {
				if !cmd.Flags().Changed(flag) {
					continue
				}
				if _, err := bowline.ParseRate(given[i]); err != nil {
					return usageError{fmt.Errorf("--%s %w", flag, err)}
				}
				rates[bowline.RateKeys()[i]] = given[i]
			}
			rows, err := a.runtime().Shape(cmd.Context(), w, rates)
			return errors.Join(err, a.print(list(rows), func(out io.Writer) {
				fmt.Fprintf(out, "NETWORK\tLINK\tINGRESS\tEGRESS\n")
				for _, r := range rows {
					fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", r.Network, cmp.Or(r.Interface, "-"), bowline.FormatRate(r.IngressRate), bowline.FormatRate(r.EgressRate))
				}
			}))
		},
	}
	f := c.Flags()
	for i, usage := range []string{
		"`RATE` towards the container", "`BITS` that may come at once (default: what suits the rate)",
		"`RATE` from the container", "`BITS` that may go at once (default: what suits the rate)",
	} {
		f.StringVar(&given[i], rateFlags()[i], "", usage)
	}
	f.StringVar(&w.Network, "network", "", "only on that `NETWORK` (default: all that it is attached to)")
	f.StringVar(&w.IfName, "ifname", "", "only the link of that `NAME` (default: all)")
	f.SortFlags = false
	return c
}

// rateFlags are the flags for [bowline.RateKeys].
func rateFlags() []string {
	return []string{"ingress", "ingress-burst", "egress", "egress-burst"}
}
