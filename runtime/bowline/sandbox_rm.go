package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) sandboxRm() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:               "rm [--force] NAME...",
		Short:             "detach sandboxes from everything and remove them",
		Args:              args("NAME..."),
		ValidArgsFunction: complete(a.sandboxNames),
		RunE: func(cmd *cobra.Command, given []string) error {
			var errs []error
			for _, name := range given {
				errs = append(errs, a.runtime().RemoveSandbox(cmd.Context(), name, force))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVar(&force, "force", false, "go on if a plugin fails to detach")
	return c
}
