package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime/demo"
)

func (a *app) demo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "show it all at work, and that nothing stays behind",
		Long: "demo makes two bridge networks and a macvlan one on a cable of its own, with two sandboxes\n" +
			"and a web server in each, shows who reaches whom, the host too, measures attaching and\n" +
			"detaching, takes everything back and compares the host before and after. It uses free\n" +
			"subnets and names of its own, sends nothing out of the machine and puts the forwarding\n" +
			"sysctls back; Ctrl-C takes everything back, too",
		Args:        args(),
		Annotations: map[string]string{"exit": "0 all is well, 1 failed or something differs, 2 wrong usage"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			// A reader that goes away, such as head, must not kill us half-way.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			out := a.stdout
			if a.json {
				out = io.Discard
			}
			report, err := demo.Run(cmd.Context(), a.runtime(), self, out)
			if err != nil {
				return err
			}
			if a.json {
				err = a.print(report, nil)
			}
			if err == nil && !report.OK() {
				return errors.New("demo: not all was as it should be")
			}
			return err
		},
	}
	c.AddCommand(&cobra.Command{
		Use: "serve NAME", Hidden: true, Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return demo.Serve(cmd.Context(), given[0], os.Stdin, a.stdout)
		},
	}, &cobra.Command{
		Use: "probe", Hidden: true, Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return demo.Probe(cmd.Context(), os.Stdin, a.stdout) },
	})
	return c
}
