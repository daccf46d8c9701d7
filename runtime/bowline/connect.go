package main

import (
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/runtime"
)

func (a *app) connect() *cobra.Command {
	var ips, ports []string
	var mac string
	var rates rateFlags
	var s runtime.ConnectSpec
	c := &cobra.Command{
		Use:   "connect [flags] SANDBOX NETWORK",
		Short: "attach a sandbox to a network",
		Long: "connect attaches a sandbox to a network and prints the link, the addresses and the ports\n" +
			"of the host that it got",
		Example: "  bowline connect c1 web\n" +
			"  bowline connect c1 web -p 8080:80 -p 127.0.0.1:5300:53/udp -p 8000-8009:8000-8009 -p 80\n" +
			"  bowline connect c1 web --ingress 100mbit --egress 20mbit",
		Args:              args("SANDBOX", "NETWORK"),
		ValidArgsFunction: complete(a.sandboxNames, a.networkNames),
		RunE: func(cmd *cobra.Command, given []string) (err error) {
			s.Sandbox, s.Network = given[0], given[1]
			if s.IPs, err = parseAddrs("--ip", ips); err != nil {
				return err
			}
			for _, p := range ports {
				m, err := runtime.ParsePort(p)
				if err != nil {
					return usageError{fmt.Errorf("--publish: %w", err)}
				}
				s.Ports = append(s.Ports, m)
			}
			if mac != "" {
				if s.MAC, err = net.ParseMAC(mac); err != nil || len(s.MAC) != 6 {
					return usageError{fmt.Errorf("--mac %s: want six bytes, such as 02:42:0a:00:00:01", mac)}
				}
			}
			limits, err := rates.given(cmd.Flags())
			if err != nil {
				return err
			}
			if s.Rates, err = bowline.RatesOf(limits); err != nil {
				return usageError{err}
			}
			at, err := a.runtime().Connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			return a.print(at, func(w io.Writer) { printAttachment(w, at) })
		},
	}
	f := c.Flags()
	f.StringVar(&s.IfName, "ifname", "", "`NAME` of the link in the sandbox (default: the first free of eth0, eth1, ...)")
	f.StringArrayVarP(&ports, "publish", "p", nil, "lead host `PORTS` to it, such as 8080:80 or 127.0.0.1:53:53/udp; repeat for more")
	f.StringArrayVar(&ips, "ip", nil, "want this `ADDRESS`; repeat for more (default: the plugin chooses)")
	f.StringVar(&s.Policy, "policy", "", "allow or deny by these `RULES`, such as \"deny egress to 10.0.0.0/8\"")
	f.StringVar(&mac, "mac", "", "want this `MAC` (default: the plugin chooses)")
	rates.add(f)
	f.SortFlags = false
	return c
}

func printAttachment(w io.Writer, at runtime.Attachment) {
	line := at.IfName + "\t" + join(at.Addrs)
	if len(at.Ports) > 0 {
		line += "\t" + join(at.Ports)
	}
	fmt.Fprintln(w, line)
}
