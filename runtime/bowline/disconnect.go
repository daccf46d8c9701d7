package main

import (
	"github.com/spf13/cobra"
)

func (a *app) disconnect() *cobra.Command {
	var ifname string
	c := &cobra.Command{
		Use:               "disconnect [flags] SANDBOX NETWORK",
		Short:             "detach a sandbox from a network",
		Args:              args("SANDBOX", "NETWORK"),
		ValidArgsFunction: complete(a.sandboxNames, a.networkNames),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.runtime().Disconnect(cmd.Context(), given[0], given[1], ifname)
		},
	}
	c.Flags().StringVar(&ifname, "ifname", "", "only the link of that `NAME` (default: all on the network)")
	return c
}
