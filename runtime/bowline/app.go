package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

// Exit codes, as the help screens have them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitFound  = 3
)

// An app is one run of the command line.
type app struct {
	stdout, stderr io.Writer
	json           bool
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

// exitError asks for an exit code; what there is to say has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// run runs the command line and returns the exit code. An error is printed once,
// here.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var usage usageError
	var exit exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "bowline: %v; see \"%s --help\"\n", err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(a.stderr, "bowline: %v\n", err)
	if errors.Is(err, runtime.ErrNoCommand) {
		return exitNoCommand
	}
	return exitFailed
}

// root returns the tree of commands.
func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:         "bowline",
		Short:       "bowline keeps sandboxes and attaches them to container networks",
		Annotations: map[string]string{"exit": "0 done, 1 failed, 2 wrong usage, 3 found something (check, diff, repair, doctor)"},
		Example: "  bowline network create web --ipv6\n" +
			"  bowline sandbox create one two\n" +
			"  bowline connect one web\n" +
			"  bowline sandbox exec one ip addr",
		SilenceErrors: true,
		SilenceUsage:  true,
	},
		a.network(), a.sandbox(), a.connect(), a.disconnect(), a.ls(), a.stats(), a.metrics(), a.shape(), a.policy(), a.explain(), a.check(), a.diff(), a.repair(), a.gc(),
		a.doctor(), a.demo(), a.version(), a.completion(),
	)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(helpTemplate)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetHelpCommand(a.help())
	root.CompletionOptions.DisableDefaultCmd = true // ours has help of our shape
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON instead of text")
	hideHelpFlags(root)
	return root
}

// hideHelpFlags keeps --help out of the help screens, which end up there.
func hideHelpFlags(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	c.Flags().Lookup("help").Hidden = true
	c.DisableFlagsInUseLine = true
	for _, sub := range c.Commands() {
		hideHelpFlags(sub)
	}
}

// group returns a command that only holds others.
func group(c *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	c.Args = func(cmd *cobra.Command, given []string) error {
		if len(given) == 0 {
			return nil
		}
		text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), given[0])
		if near := cmd.SuggestionsFor(given[0]); len(near) > 0 {
			text += fmt.Sprintf(", but %q", near)
		}
		return usageError{errors.New(text)}
	}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(subs...)
	return c
}

// args returns a check that there are exactly the named arguments; a last name
// that ends in "..." stands for one or more.
func args(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, given []string) error {
		n := len(names)
		many := n > 0 && strings.HasSuffix(names[n-1], "...")
		switch {
		case len(given) < n:
			return usageError{fmt.Errorf("%s is missing", strings.TrimSuffix(names[len(given)], "..."))}
		case len(given) > n && !many:
			return usageError{fmt.Errorf("unexpected %q", given[n])}
		}
		return nil
	}
}

// runtime returns the runtime of this host; plugins log to our standard error.
func (a *app) runtime() *runtime.Runtime { return runtime.New(a.stderr) }

// print prints v as JSON if that was asked for, else what text writes, its tabs
// aligned as columns.
func (a *app) print(v any, text func(w io.Writer)) error {
	if a.json {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// list returns s, or an empty list, so that JSON says [] rather than null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
