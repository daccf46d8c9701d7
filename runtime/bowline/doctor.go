package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime/doctor"
)

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "find out what is wrong with this host, and how to mend it",
		Long: "doctor finds out what on this host keeps container networks from working: features of\n" +
			"the kernel (by trying them), plugins, other owners of the firewall, forwarding, MTU,\n" +
			"and leftovers of ours and of the CNI reference plugins. It changes nothing",
		Args:        args(),
		Annotations: map[string]string{"exit": exitWithFindings},
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := doctor.Examine(cmd.Context(), a.runtime())
			err := a.print(list(all), func(w io.Writer) {
				for _, f := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\n", f.Level, f.Area, f.Text)
					if f.Fix != "" {
						fmt.Fprintf(w, "\t\t  fix: %s\n", f.Fix)
					}
				}
			})
			if err == nil && doctor.Sick(all) {
				return exitError(exitFound)
			}
			return err
		},
	}
}
