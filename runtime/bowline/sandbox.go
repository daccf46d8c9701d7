package main

import (
	"context"
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
	var path, network string
	c := &cobra.Command{
		Use:   "create [--network none|host | --netns PATH] NAME...",
		Short: "create sandboxes, each with nothing but its loopback",
		Long: "create makes sandboxes, each with nothing but its loopback, and prints where they are\n" +
			"mounted; or sandboxes that share the host's own network; or makes one of a namespace\n" +
			"that is there, and stays when the sandbox goes",
		Args: args("NAME..."),
		RunE: func(cmd *cobra.Command, given []string) error {
			create := a.runtime().CreateSandbox
			switch network {
			case runtime.NetworkNone:
			case runtime.NetworkHost:
				create = a.runtime().ShareSandbox
			default:
				return usageError{fmt.Errorf("--network %s: want none or host; \"bowline connect\" attaches a sandbox to other networks", network)}
			}
			if path != "" {
				if cmd.Flags().Changed("network") {
					return usageError{fmt.Errorf("--netns %s and --network %s: want one of them", path, network)}
				}
				if len(given) > 1 {
					return usageError{fmt.Errorf("--netns %s: want one NAME", path)}
				}
				create = func(ctx context.Context, name string) (runtime.Sandbox, error) {
					return a.runtime().AdoptSandbox(ctx, name, path)
				}
			}
			var made []runtime.Sandbox
			var errs []error
			for _, name := range given {
				s, err := create(cmd.Context(), name)
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
	c.Flags().StringVar(&network, "network", runtime.NetworkNone, "share that of the host if `WORD` is host, else have a loopback alone")
	c.Flags().StringVar(&path, "netns", "", "adopt the namespace at `PATH`, such as /proc/PID/ns/net, and never remove it")
	return c
}
