package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) explain() *cobra.Command {
	var container, ifname, netns string
	c := &cobra.Command{
		Use:   "explain ADD|DEL [--netns PATH] < CONFLIST",
		Short: "show what a CNI command would do, without doing it",
		Long: "explain shows what attaching a container to the network of a CNI configuration, or\n" +
			"detaching it, would do to this host as it is now: links, addresses, routes, sysctls,\n" +
			"firewall and records, in order, and the address it would get. It changes nothing.\n" +
			"Without --netns the container is one that has nothing yet",
		Args: args("ADD or DEL"),
		Example: "  bowline explain ADD < /etc/cni/net.d/10-web.conflist\n" +
			"  bowline explain DEL --container 4f2a... < /etc/cni/net.d/10-web.conflist",
		RunE: func(cmd *cobra.Command, given []string) error {
			verb := strings.ToUpper(given[0])
			if verb != "ADD" && verb != "DEL" {
				return usageError{fmt.Errorf("%s cannot be explained: want ADD or DEL", given[0])}
			}
			conf, err := io.ReadAll(os.Stdin)
			if err != nil {
				return err
			}
			x, err := a.runtime().Explain(cmd.Context(), verb, conf, container, ifname, netns)
			if err != nil {
				return err
			}
			x.Steps = list(x.Steps)
			err = a.print(x, func(w io.Writer) {
				for _, s := range x.Steps {
					fmt.Fprintf(w, "%s\t%s\t%s\n", s.Where, s.Kind, s.What)
				}
			})
			if err == nil && x.Error != "" {
				err = errors.New(x.Error)
			}
			return err
		},
	}
	c.Flags().StringVar(&container, "container", "explain", "`ID` of the container")
	c.Flags().StringVar(&ifname, "ifname", "eth0", "`NAME` of its link")
	c.Flags().StringVar(&netns, "netns", "", "`PATH` of its namespace")
	return c
}
