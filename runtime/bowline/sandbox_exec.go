package main

import (
	"github.com/spf13/cobra"
)

// exitNoCommand is what shells say when there is no such command.
const exitNoCommand = 127

func (a *app) sandboxExec() *cobra.Command {
	c := &cobra.Command{
		Use:   "exec NAME COMMAND [ARG...]",
		Short: "run a command inside a sandbox",
		Long: "exec runs a command inside the sandbox's network namespace. Files, processes and\n" +
			"the user stay those of the host",
		Args:              args("NAME", "COMMAND..."),
		ValidArgsFunction: complete(a.sandboxNames),
		Annotations:       map[string]string{"exit": "that of the command; 127 if it cannot be run, 1 failed, 2 wrong usage"},
		RunE: func(cmd *cobra.Command, given []string) error {
			argv := given[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			if len(argv) == 0 {
				return args("NAME", "COMMAND...")(cmd, given[:1])
			}
			return a.runtime().Exec(cmd.Context(), given[0], argv)
		},
	}
	c.Flags().SetInterspersed(false) // what follows COMMAND is for it
	return c
}
