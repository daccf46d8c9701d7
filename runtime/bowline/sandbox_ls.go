package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) sandboxLs() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "list sandboxes",
		Args:  args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := a.runtime()
			all, err := r.Sandboxes(cmd.Context())
			if err != nil {
				return err
			}
			attached, err := r.Attachments(cmd.Context())
			if err != nil {
				return err
			}
			type row struct {
				runtime.Sandbox
				State    string   `json:"state"`
				Networks []string `json:"networks"`
			}
			var rows []row
			for _, s := range all {
				r := row{s, "alive", []string{}}
				if !s.Alive() {
					r.State = "gone"
				}
				if s.Network == runtime.NetworkHost {
					r.Networks = append(r.Networks, "(the host's own)")
				}
				for _, at := range attached {
					if at.ContainerID == s.ID {
						r.Networks = append(r.Networks, at.Network)
					}
				}
				rows = append(rows, r)
			}
			return a.print(list(rows), func(w io.Writer) {
				fmt.Fprintf(w, "SANDBOX\tSTATE\tNAMESPACE\tNETWORKS\n")
				for _, s := range rows {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.State, s.Path, strings.Join(s.Networks, " "))
				}
			})
		},
	}
}
