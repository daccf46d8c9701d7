package main

import (
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline/runtime"
)

func (a *app) connect() *cobra.Command {
	var ips []string
	var mac string
	var s runtime.ConnectSpec
	c := &cobra.Command{
		Use:               "connect [flags] SANDBOX NETWORK",
		Short:             "attach a sandbox to a network",
		Long:              "connect attaches a sandbox to a network and prints the link and addresses that it got",
		Args:              args("SANDBOX", "NETWORK"),
		ValidArgsFunction: complete(a.sandboxNames, a.networkNames),
		RunE: func(cmd *cobra.Command, given []string) (err error) {
			s.Sandbox, s.Network = given[0], given[1]
			if s.IPs, err = parseAddrs("--ip", ips); err != nil {
				return err
			}
			if mac != "" {
				if s.MAC, err = net.ParseMAC(mac); err != nil || len(s.MAC) != 6 {
					return usageError{fmt.Errorf("--mac %s: want six bytes, such as 02:42:0a:00:00:01", mac)}
				}
			}
			at, err := a.runtime().Connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			return a.print(at, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\n", at.IfName, join(at.Addrs)) })
		},
	}
	f := c.Flags()
	f.StringVar(&s.IfName, "ifname", "", "`NAME` of the link in the sandbox (default: the first free of eth0, eth1, ...)")
	f.StringArrayVar(&ips, "ip", nil, "want this `ADDRESS`; repeat for more (default: the plugin chooses)")
	f.StringVar(&s.Policy, "policy", "", "allow or deny by these `RULES`, such as \"deny egress to 10.0.0.0/8\"")
	f.StringVar(&mac, "mac", "", "want this `MAC` (default: the plugin chooses)")
	f.SortFlags = false
	return c
}
