package main

import (
	"fmt"
	"io"
	goruntime "runtime"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version and where plugins are looked for",
		Args:  args(),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string   `json:"version"`
				Go      string   `json:"go"`
				Path    []string `json:"path"`
			}{version, goruntime.Version(), runtime.SearchPath()}
			return a.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "bowline %s (%s)\n", v.Version, v.Go)
				for _, dir := range v.Path {
					fmt.Fprintf(w, "plugins from %s\n", dir)
				}
			})
		},
	}
}
