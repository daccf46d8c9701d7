package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) networkRm() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:               "rm [--force] NAME...",
		Short:             "remove networks and what their plugins keep for them",
		Args:              args("NAME..."),
		ValidArgsFunction: complete(a.networkNames),
		RunE: func(cmd *cobra.Command, given []string) error {
			var errs []error
			for _, name := range given {
				errs = append(errs, a.runtime().RemoveNetwork(cmd.Context(), name, force))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVar(&force, "force", false, "disconnect who is attached, and go on if a plugin fails")
	return c
}
