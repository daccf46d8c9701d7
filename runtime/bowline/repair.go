package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) diff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff",
		Short: "show what is not as the plugins left it",
		Long: "diff shows what of links, addresses, routes, settings and rules is not as the plugins\n" +
			"left it, on the host and in the containers of all engines. It changes nothing",
		Args:        args(),
		Annotations: map[string]string{"exit": exitWithFindings},
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := a.runtime().Diff(cmd.Context())
			return a.defects(found, err, func(w io.Writer) {
				fmt.Fprintf(w, "NETWORK\tCONTAINER\tLINK\tWHAT\n")
				for _, d := range found {
					fmt.Fprintf(w, "%.24s\t%.32s\t%s\t%s\n", d.Network, cmp.Or(d.Container, "-"), cmp.Or(d.Interface, "-"), d.Text())
				}
			})
		},
	}
}

func (a *app) repair() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "repair [--watch]",
		Short: "make right what is not as the plugins left it",
		Long: "repair makes right what diff shows: after a flushed ruleset, a deleted bridge or route,\n" +
			"a reload of another firewall. It leaves alone what is right. With --watch it goes on\n" +
			"and repairs what breaks within a second; it waits for events, and costs nothing\n" +
			"until one comes",
		Args:        args(),
		Annotations: map[string]string{"exit": "0 all is well now, 1 failed, 2 wrong usage, 3 found something that it cannot repair"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.runtime().WatchAndRepair(cmd.Context(), a.printDefect)
			}
			found, err := a.runtime().Repair(cmd.Context())
			return a.defects(found, err, func(w io.Writer) {
				fmt.Fprintf(w, "NETWORK\tCONTAINER\tLINK\tREPAIRED\tWHAT\n")
				for _, d := range found {
					fmt.Fprintf(w, "%.24s\t%.32s\t%s\t%s\t%s\n", d.Network, cmp.Or(d.Container, "-"), cmp.Or(d.Interface, "-"), yesNo(d.Repaired), d.Text())
				}
			})
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and repair what breaks")
	return c
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// defects prints what was found, and asks for an exit code if some of it is so
// still.
func (a *app) defects(found []runtime.Defect, err error, text func(w io.Writer)) error {
	if perr := a.print(list(found), text); err != nil || perr != nil {
		return errors.Join(err, perr)
	}
	if slices.ContainsFunc(found, func(d runtime.Defect) bool { return !d.Repaired }) {
		return exitError(exitFound)
	}
	return nil
}

// printDefect prints one line.
func (a *app) printDefect(d runtime.Defect) error {
	if a.json {
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		return e.Encode(d)
	}
	state := "repaired"
	if !d.Repaired {
		state = "not repaired"
	}
	who := "network " + d.Network
	if d.Container != "" {
		who += ", container " + d.Container
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s: %s\n", who, state, d.Text())
	return err
}
