package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) policy() *cobra.Command {
	return group(&cobra.Command{
		Use:   "policy",
		Short: "show and change whom containers may talk to",
	}, a.policyShow(), a.policySet())
}

func (a *app) policyShow() *cobra.Command {
	var w runtime.Wanted
	c := &cobra.Command{
		Use:   "show [flags] [CONTAINER]",
		Short: "show the rules of containers and how often each decided",
		Long: "show prints the rules of all containers that have a policy, or of one, whichever engine\n" +
			"attached it, in the order in which they are tried, and how often each decided: about\n" +
			"each packet that it denied, and the first of each connection that it allowed",
		Args: func(_ *cobra.Command, given []string) error {
			if len(given) > 1 {
				return usageError{fmt.Errorf("unexpected %q", given[1])}
			}
			return nil
		},
		ValidArgsFunction: complete(a.sandboxNames),
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) == 1 {
				w.Container = given[0]
			} else if w != (runtime.Wanted{}) {
				return usageError{errors.New("CONTAINER is missing")}
			}
			rows, err := a.runtime().Policies(cmd.Context(), w)
			return errors.Join(err, a.print(list(rows), func(out io.Writer) {
				fmt.Fprintf(out, "NETWORK\tCONTAINER\tLINK\tRULE\tPACKETS\tBYTES\n")
				for _, r := range rows {
					for _, p := range r.Policy {
						fmt.Fprintf(out, "%.24s\t%.32s\t%s\t%s\t%d\t%d\n", r.Network, r.Container, cmp.Or(r.Interface, "-"), p.Rule, p.Packets, p.Bytes)
					}
				}
			}))
		},
	}
	wantedFlags(c, &w)
	return c
}

func (a *app) policySet() *cobra.Command {
	var w runtime.Wanted
	c := &cobra.Command{
		Use:   "set [flags] CONTAINER RULES",
		Short: "change the rules of a container while it runs",
		Long: "set replaces the rules of a container, whichever engine attached it, and prints what\n" +
			"they are then: those given, before those of its network. No rules, \"\", leave those of\n" +
			"the network. Connections that are there are decided about anew. CONTAINER is a sandbox,\n" +
			"the name or ID of a container, the ID of a Docker endpoint, or an address",
		Example: "  bowline policy set one \"allow ingress tcp 80,443; deny ingress\"\n" +
			"  bowline policy set 10.1.0.2 \"deny ingress; deny egress\"",
		Args:              args("CONTAINER", "RULES"),
		ValidArgsFunction: complete(a.sandboxNames),
		RunE: func(cmd *cobra.Command, given []string) error {
			w.Container = given[0]
			rows, err := a.runtime().SetPolicy(cmd.Context(), w, given[1])
			return errors.Join(err, a.print(list(rows), func(out io.Writer) {
				fmt.Fprintf(out, "NETWORK\tLINK\tRULE\n")
				for _, r := range rows {
					for _, rule := range r.Rules {
						fmt.Fprintf(out, "%s\t%s\t%s\n", r.Network, cmp.Or(r.Interface, "-"), rule)
					}
				}
			}))
		},
	}
	wantedFlags(c, &w)
	return c
}

// wantedFlags are those that say which attachments of a container are meant.
func wantedFlags(c *cobra.Command, w *runtime.Wanted) {
	f := c.Flags()
	f.StringVar(&w.Network, "network", "", "only on that `NETWORK` (default: all that it is attached to)")
	f.StringVar(&w.IfName, "ifname", "", "only the link of that `NAME` (default: all)")
	f.SortFlags = false
}
