package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) sandbox() *cobra.Command {
	return group(&cobra.Command{
		Use:   "sandbox",
		Short: "create, list, remove and enter sandboxes",
		Long:  "sandbox works on sandboxes: network namespaces with a name",
	}, a.sandboxCreate(), a.sandboxLs(), a.sandboxRm(), a.sandboxExec())
}

func (a *app) sandboxCreate() *cobra.Command {
	return &cobra.Command{
		Use:   "create NAME...",
		Short: "create sandboxes, each with nothing but its loopback",
		Long:  "create makes sandboxes, each with nothing but its loopback, and prints where they are mounted",
		Args:  args("NAME..."),
		RunE: func(cmd *cobra.Command, given []string) error {
			var made []runtime.Sandbox
			var errs []error
			for _, name := range given {
				s, err := a.runtime().CreateSandbox(cmd.Context(), name)
				if err == nil {
					made = append(made, s)
				}
				errs = append(errs, err)
			}
			errs = append(errs, a.print(list(made), func(w io.Writer) {
				for _, s := range made {
					fmt.Fprintf(w, "%s\t%s\n", s.Name, s.Path)
				}
			}))
			return errors.Join(errs...)
		},
	}
}
