package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) completion() *cobra.Command {
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "print what completes commands in bash, zsh or fish",
		Example:   "  source <(bowline completion bash)",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      args("SHELL"),
		RunE: func(cmd *cobra.Command, given []string) error {
			root := cmd.Root()
			switch given[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return usageError{fmt.Errorf("SHELL %q: want bash, zsh or fish", given[0])}
		},
	}
}
