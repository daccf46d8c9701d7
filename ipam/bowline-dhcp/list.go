package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bowline-net/bowline/internal/dhcp/keeper"
)

// list prints one line per lease on record; the daemon need not run.
func list(args []string, w io.Writer) error {
	all, err := keeper.List(context.Background())
	if len(args) == 1 && args[0] == "-json" {
		e := json.NewEncoder(w)
		for _, l := range all {
			if err := e.Encode(l); err != nil {
				return err
			}
		}
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NETWORK\tENDPOINT\tADDRESSES\tSERVER\tRENEWS\tENDS")
	for _, l := range all {
		fmt.Fprintf(t, "%.12s\t%.20s\t%s\t%s\t%s\t%s\n", l.Network, l.Endpoint, strings.Join(l.Addresses, ","), l.Server, in(l.Renews), in(l.Ends))
	}
	if ferr := t.Flush(); err == nil {
		err = ferr
	}
	return err
}

// in says when something is, in seconds from now; nothing for nil.
func in(seconds *int64) string {
	if seconds == nil {
		return ""
	}
	return "in " + (time.Duration(*seconds) * time.Second).String()
}
