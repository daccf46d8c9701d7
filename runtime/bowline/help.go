package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// help is hidden: --help at any command says the same.
func (a *app) help() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "print the help of a command",
		Hidden: true,
		RunE: func(cmd *cobra.Command, given []string) error {
			about, rest, err := cmd.Root().Find(given)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("no command %q", given)}
			}
			return about.Help()
		},
	}
}

// helpTemplate is the shape of every help screen: what it does, how it is
// called, its commands and flags, and the exit codes.
const helpTemplate = `{{with or .Long .Short}}{{.}}.{{end}}

Usage:
{{- if .HasAvailableSubCommands}}
{{- $path := .CommandPath}}
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad (print $path " " .Name) 24}} {{.Short}}{{end}}{{end}}
{{- else}}
  {{.UseLine}}
{{- end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}
{{- if .HasAvailableInheritedFlags}}

Flags of all commands:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}
{{- with .Example}}

Examples:
{{.}}
{{- end}}

Exit status: {{with index .Annotations "exit"}}{{.}}{{else}}0 done, 1 failed, 2 wrong usage{{end}}.
`
