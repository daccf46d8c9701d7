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
	var flags rateFlags
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
			rates, err := flags.given(cmd.Flags())
			if err != nil {
				return err
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
	flags.add(f)
	f.StringVar(&w.Network, "network", "", "only on that `NETWORK` (default: all that it is attached to)")
	f.StringVar(&w.IfName, "ifname", "", "only the link of that `NAME` (default: all)")
	f.SortFlags = false
	return c
}
