package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) network() *cobra.Command {
	return group(&cobra.Command{
		Use:   "network",
		Short: "create, list, inspect and remove networks",
	}, a.networkCreate(), a.networkLs(), a.networkInspect(), a.networkRm())
}

// completer completes the arguments of a command, by their positions.
type completer = func(cmd *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective)

// complete returns a completer whose nth argument is one of what the nth source
// lists. A source that fails completes nothing.
func complete(sources ...func(context.Context) []string) completer {
	return func(cmd *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
		var fit []string
		if len(given) < len(sources) {
			for _, name := range sources[len(given)](cmd.Context()) {
				if strings.HasPrefix(name, begun) {
					fit = append(fit, name)
				}
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) networkNames(ctx context.Context) []string {
	all, _ := a.runtime().Networks(ctx)
	var names []string
	for _, n := range all {
		names = append(names, n.Name)
	}
	return names
}

func (a *app) sandboxNames(ctx context.Context) []string {
	all, _ := a.runtime().Sandboxes(ctx)
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// join writes the parts of a list in one cell of a table.
func join[T interface{ String() string }](parts []T) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.String()
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, " ")
}
