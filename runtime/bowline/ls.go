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
		Short: "show who is attached where, with addresses",
		Long: "ls shows who is attached where, with addresses, whichever engine did it: bowline,\n" +
			"another CNI runtime through our plugins, or Docker",
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.runtime().Endpoints(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(list(all), func(w io.Writer) {
				fmt.Fprintf(w, "NETWORK\tCONTAINER\tLINK\tADDRESSES\tDRIVER\tENGINE\n")
				for _, e := range all {
					engine := e.Engine
					if !e.Ready {
						engine += " (unfinished)"
					}
					fmt.Fprintf(w, "%.24s\t%.32s\t%s\t%s\t%s\t%s\n",
						e.Network, e.Container, cmp.Or(e.IfName, "-"), join(e.Addrs), e.Driver, engine)
				}
			})
		},
	}
}
