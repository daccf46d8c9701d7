package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) networkInspect() *cobra.Command {
	return &cobra.Command{
		Use:               "inspect NAME",
		Short:             "show a network, its state and who is attached",
		Args:              args("NAME"),
		ValidArgsFunction: complete(a.networkNames),
		RunE: func(cmd *cobra.Command, given []string) error {
			r := a.runtime()
			n, err := r.Network(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			all, err := r.Endpoints(cmd.Context())
			if err != nil {
				return err
			}
			v := struct {
				runtime.Network
				Status    string             `json:"status"`
				Endpoints []runtime.Endpoint `json:"endpoints"`
			}{n, "ready", list(slices.DeleteFunc(all, func(e runtime.Endpoint) bool { return e.Network != n.Name }))}
			if err := r.Status(cmd.Context(), n.Name); err != nil {
				v.Status = err.Error()
			}
			return a.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "network\t%s\nplugin\t%s\nsubnets\t%s\nstatus\t%s\n", n.Name, n.Plugin, join(n.Subnets), v.Status)
				for _, e := range v.Endpoints {
					fmt.Fprintf(w, "attached\t%s %s %s\n", e.Container, e.IfName, join(e.Addrs))
				}
				var conf bytes.Buffer
				if json.Indent(&conf, n.Conf, "", "  ") == nil {
					fmt.Fprintf(w, "\n%s\n", conf.String())
				}
			})
		},
	}
}
