package state

import (
	"context"
	"net/netip"
	"slices"
	"strings"
)

// Prefixes returns those that the addresses of a network's endpoints are from,
// whichever driver attached them; none if it has no endpoints.
func (e Endpoints) Prefixes(ctx context.Context, network string) ([]netip.Prefix, error) {
	dirs, err := e.store.Dirs(ctx, "")
	if err != nil {
		return nil, err
	}
	var ps []netip.Prefix
	for _, dir := range dirs {
		if !strings.HasSuffix(dir, "-"+short(network)) {
			continue
		}
		records, err := e.in(ctx, dir)
		if err != nil && len(records) == 0 {
			return nil, err
		}
		for _, r := range records {
			for _, p := range r.Pools {
				if !slices.Contains(ps, p.Prefix) {
					ps = append(ps, p.Prefix)
				}
			}
		}
	}
	return ps, nil
}
