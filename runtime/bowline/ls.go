package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) ls() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "show who is attached where, with addresses and published ports",
		Long: "ls shows who is attached where, with addresses and published ports, whichever\n" +
			"engine did it: bowline, another CNI runtime through our plugins, or Docker, whose\n" +
			"own docker ps cannot show the ports of drivers that are not its own",
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.runtime().Endpoints(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(list(all), func(w io.Writer) {
				fmt.Fprintf(w, "NETWORK\tCONTAINER\tLINK\tADDRESSES\tPORTS\tDRIVER\tENGINE\n")
				for _, e := range all {
					engine := e.Engine
					if !e.Ready {
						engine += " (unfinished)"
					}
					fmt.Fprintf(w, "%.24s\t%.32s\t%s\t%s\t%s\t%s\t%s\n",
						e.Network, e.Container, cmp.Or(e.IfName, "-"), join(e.Addrs), join(e.Ports), e.Driver, engine)
				}
			})
		},
	}
}
