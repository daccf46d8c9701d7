package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

const exitWithFindings = "0 all is well, 1 failed, 2 wrong usage, 3 found something"

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check [SANDBOX]",
		Short: "compare attachments with what the plugins made",
		Long: "check has the plugins compare the attachments of one sandbox, or of all, with what\n" +
			"they made: links, addresses, routes, rules and reservations",
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return nil
			}
			return args("SANDBOX")(cmd, given)
		},
		ValidArgsFunction: complete(a.sandboxNames),
		Annotations:       map[string]string{"exit": exitWithFindings},
		RunE: func(cmd *cobra.Command, given []string) error {
			sandbox := ""
			if len(given) == 1 {
				sandbox = given[0]
			}
			n, found, err := a.runtime().Check(cmd.Context(), sandbox)
			if err != nil {
				return err
			}
			v := struct {
				Checked  int               `json:"checked"`
				Findings []runtime.Finding `json:"findings"`
			}{n, list(found)}
			err = a.print(v, func(w io.Writer) {
				for _, f := range found {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Sandbox, f.Network, f.IfName, f.Problem)
				}
				fmt.Fprintf(w, "%d of %d attachments differ\n", len(found), n)
			})
			if err == nil && len(found) > 0 {
				return exitError(exitFound)
			}
			return err
		},
	}
}
