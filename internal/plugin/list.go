package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cnm"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/table"
	"github.com/bowline-net/bowline/ipam"
)

// mine returns the records of this driver's endpoints.
func (s Spec) mine(ctx context.Context) ([]state.Endpoint, error) {
	all, err := state.OpenEndpoints().All(ctx)
	var rs []state.Endpoint
	for _, r := range all {
		if r.Driver == s.Name {
			rs = append(rs, r)
		}
	}
	return rs, err
}

// list prints one line per endpoint.
func (s Spec) list(ctx context.Context, c *call) error {
	if _, err := c.parse(c.flags()); err != nil {
		return err
	}
	rs, err := s.mine(ctx)
	return errors.Join(err, table.Print(c.stdout, c.json, "NETWORK\tENDPOINT\tADDRESSES\tPORTS\tLINK\tMAC\tBY", rs, func(w io.Writer, r state.Endpoint) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Network, r.ID, words(r.Addrs), words(r.Ports), r.Link, r.MAC, r.Face)
	}))
}

// words puts what belongs into one cell of a row there.
func words[T fmt.Stringer](parts []T) string {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.String()
	}
	return cmp.Or(strings.Join(texts, " "), "-")
}

// prune removes the endpoints whose sandbox is gone, and those of a previous
// boot, and then the networks that have no endpoint. Docker's are left to
// Docker, which ends them itself.
func (s Spec) prune(ctx context.Context, c *call) error {
	if _, err := c.parse(NewOptions()); err != nil {
		return err
	}
	rs, err := s.mine(ctx)
	errs := []error{err}
	d, err := s.New(false)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.Face != "cni" || alive(r) {
			continue
		}
		if err := s.remove(ctx, d, r); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(c.stdout, "removed %s from network %s\n", r.ID, r.Network)
	}
	return errors.Join(append(errs, s.pruneNetworks(ctx, d, c.stdout))...)
}

func (s Spec) pruneNetworks(ctx context.Context, d bowline.Driver, w io.Writer) error {
	c, ok := d.(bowline.Collector)
	if !ok {
		return nil
	}
	empty, err := c.Networks(ctx)
	errs := []error{err}
	docker, err := cnm.OpenNetworks(s.Name).All(ctx)
	errs = append(errs, err)
	for _, n := range empty {
		if slices.ContainsFunc(docker, func(o cnm.Network) bool { return o.ID == n.ID }) {
			continue
		}
		if err := d.DeleteNetwork(ctx, n); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(w, "removed network %s\n", n.ID)
	}
	return errors.Join(errs...)
}

// alive reports whether the endpoint's sandbox is still the one it was.
func alive(r state.Endpoint) bool {
	id, ok := netns.Stat(r.Sandbox)
	return ok && id.Ino == r.NetnsIno && r.BootID == state.BootID()
}

func (s Spec) remove(ctx context.Context, d bowline.Driver, r state.Endpoint) error {
	defer state.OpenEndpoints().Hold(r.Driver, r.Network, r.ID)()
	e, done := specOf(r)
	defer done()
	if err := d.DeleteEndpoint(ctx, r.Config(), e); err != nil {
		return err
	}
	if r.IPAM == "bowline-ipam" {
		if _, err := ipam.Open(r.Network).Release(ctx, ipam.Owner{Container: r.Container, IfName: r.IfName}); err != nil {
			return err
		}
	}
	return state.OpenEndpoints().Delete(ctx, r.Driver, r.Network, r.ID)
}
