package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/bowline-net/bowline/ipam"
)

// list prints one line per address taken or in quarantine, and one per pool of
// Docker's.
func list(w io.Writer) error {
	ctx := context.Background()
	networks, err := ipam.Networks(ctx)
	errs := []error{err}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NETWORK\tADDRESS\tGATEWAY\tCONTAINER\tINTERFACE")
	for _, n := range networks {
		as, err := ipam.Open(n).List(ctx)
		errs = append(errs, err)
		for _, a := range as {
			gateway := ""
			if a.Gateway.IsValid() {
				gateway = a.Gateway.String()
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", n, a.Addr, gateway, a.Owner.Container, a.Owner.IfName)
		}
	}
	for _, n := range networks {
		qs, err := ipam.Open(n).Quarantined(ctx)
		errs = append(errs, err)
		for _, q := range qs {
			fmt.Fprintf(t, "%s\t%s\t\t(quarantine)\t%s uses it, until %s\n", n, q.Addr, q.MAC, q.Until.UTC().Format(time.RFC3339))
		}
	}
	pools, err := ipam.OpenPools().List(ctx)
	errs = append(errs, err)
	for _, p := range pools {
		for _, r := range p.Reserved {
			what := "reserved"
			if r.Gateway {
				what = "gateway"
			}
			fmt.Fprintf(t, "pool:%s/%s\t%s/%d\t\t(%s)\t\n", p.Space, p.Prefix, r.Addr, p.Prefix.Bits(), what)
		}
	}
	return errors.Join(append(errs, t.Flush())...)
}

// A poolRow says how much of one set of ranges of a network is taken.
type poolRow struct {
	Network string `json:"network"`
	Ranges  string `json:"ranges"`
	Used    uint64 `json:"used"`
	Free    uint64 `json:"free"`    // resting ones among them
	Resting uint64 `json:"resting"` // released lately

	Quarantined uint64 `json:"quarantined,omitempty"` // neither used nor free, for others use them
}

// pools prints one line per set of ranges that addresses were taken from.
func pools(args []string, w io.Writer) error {
	networks, err := ipam.Networks(context.Background())
	errs := []error{err}
	var rows []poolRow
	for _, n := range networks {
		sets, err := ipam.Open(n).Sets(context.Background())
		errs = append(errs, err)
		for _, s := range sets {
			rows = append(rows, poolRow{n, s.Ranges, s.Used, s.Free, s.Resting, s.Quarantined})
		}
	}
	if len(args) == 1 && args[0] == "-json" {
		e := json.NewEncoder(w)
		for _, r := range rows {
			errs = append(errs, e.Encode(r))
		}
		return errors.Join(errs...)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NETWORK\tRANGES\tUSED\tFREE\tRESTING\tQUARANTINE")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\n", r.Network, r.Ranges, r.Used, r.Free, r.Resting, r.Quarantined)
	}
	return errors.Join(append(errs, t.Flush())...)
}

// prune releases what belongs to containers whose sandbox is gone, and forgets
// networks of which nothing is left.
func prune(w io.Writer) error {
	ctx := context.Background()
	networks, err := ipam.Networks(ctx)
	errs := []error{err}
	for _, n := range networks {
		s := ipam.Open(n)
		as, err := s.Reclaim(ctx)
		errs = append(errs, err)
		for _, a := range as {
			fmt.Fprintf(w, "released %s of container %s, interface %s, from network %s\n", a.Addr, a.Owner.Container, a.Owner.IfName, n)
		}
		left, err := s.List(ctx)
		if err == nil && len(left) == 0 {
			err = s.Remove(ctx)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
