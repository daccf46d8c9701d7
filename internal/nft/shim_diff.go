package nft

import (
	"context"
	"fmt"

	"github.com/google/nftables"

	"github.com/bowline-net/bowline"
)

// DiffShim returns how the tables differ from what EnsureShim left.
func (s *Snapshot) DiffShim(ctx context.Context, link string) ([]bowline.Difference, error) {
	c, err := s.compareShim(ctx, link, shimWants(link))
	return c.found, err
}

// DiffShimPeer returns how the tables differ from what AdmitToShim left, apart
// from what DiffShim tells.
func (s *Snapshot) DiffShimPeer(ctx context.Context, p ShimPeer) ([]bowline.Difference, error) {
	c, err := s.compareShim(ctx, p.Link, p.wants())
	return c.found, err
}

// RepairShim makes right what DiffShim finds, and returns that, in one
// transaction. Errors are as in EnsureShim.
func (s *Snapshot) RepairShim(ctx context.Context, link string) ([]bowline.Difference, error) {
	return s.repairShim(ctx, link, shimWants(link))
}

// RepairShimPeer is RepairShim for what DiffShimPeer finds.
func (s *Snapshot) RepairShimPeer(ctx context.Context, p ShimPeer) ([]bowline.Difference, error) {
	return s.repairShim(ctx, p.Link, p.wants())
}

func shimWants(link string) wants { return wants{chains: shimChains(link), set: shimPeers()} }

func (p ShimPeer) wants() wants { return wants{elements: []element{p.element()}} }

func (s *Snapshot) compareShim(ctx context.Context, link string, w wants) (comparison, error) {
	what := "compare the filter of shim " + link
	if err := ctx.Err(); err != nil {
		return comparison{}, fmt.Errorf("%s: %w", what, err)
	}
	c, err := s.compare(w)
	return c, failure(what, err)
}

func (s *Snapshot) repairShim(ctx context.Context, link string, w wants) ([]bowline.Difference, error) {
	c, err := s.compareShim(ctx, link, w)
	if err != nil || len(c.found) == 0 {
		return c.found, err
	}
	return c.found, s.h.linkFailure("repair the filter of shim "+link, link, s.apply(c, func(conn *nftables.Conn) error {
		setUpShim(conn, link)
		return nil
	}))
}
