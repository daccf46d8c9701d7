package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) gc() *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "gc [--dry-run]",
		Short: "clear what kills, crashes and reboots left",
		Long: "gc clears what kills, crashes and reboots left: sandboxes whose namespace is gone,\n" +
			"attachments without a sandbox, and what plugins keep for neither",
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := a.runtime().GC(cmd.Context(), dry)
			return errors.Join(err, a.print(list(done), func(w io.Writer) {
				for _, c := range done {
					fmt.Fprintf(w, "%s\t%s\t%s\n", c.Kind, c.Name, c.Why)
				}
			}))
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would be cleared, change nothing")
	return c
}
