package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) networkLs() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "list networks",
		Args:  args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := a.runtime()
			all, err := r.Networks(cmd.Context())
			if err != nil {
				return err
			}
			attached, err := r.Attachments(cmd.Context())
			if err != nil {
				return err
			}
			count := map[string]int{}
			for _, at := range attached {
				count[at.Network]++
			}
			type row struct {
				runtime.Network
				Attached int `json:"attached"`
			}
			var rows []row
			for _, n := range all {
				rows = append(rows, row{n, count[n.Name]})
			}
			return a.print(list(rows), func(w io.Writer) {
				fmt.Fprintf(w, "NETWORK\tPLUGIN\tATTACHED\tSUBNETS\n")
				for _, n := range rows {
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", n.Name, n.Plugin, n.Attached, join(n.Subnets))
				}
			})
		},
	}
}
