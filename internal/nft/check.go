package nft

import (
	"context"
	"fmt"

	"github.com/google/nftables"

	"github.com/bowline-net/bowline"
)

// CheckEndpoint returns nil if all rules and elements that the endpoint and its
// network rely on are there, or an error that wraps [bowline.ErrDiffers] and
// names the first that is not.
func (h *Handle) CheckEndpoint(ctx context.Context, n Network, e Endpoint) error {
	s, err := h.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	found, err := s.DiffNetwork(ctx, n)
	if err != nil {
		return err
	}
	more, err := s.DiffEndpoint(ctx, n, e)
	if err != nil {
		return err
	}
	return bowline.FirstDifference(fmt.Sprintf("firewall of endpoint %q", e.ID), append(found, more...))
}

// CheckRoom returns nil if MakeRoom has nothing to do, or an error that wraps
// [bowline.ErrDiffers] and says where the bridge lacks room.
func (h *Handle) CheckRoom(ctx context.Context, r Room) error {
	s, err := h.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	found, err := s.DiffRoom(ctx, r)
	if err != nil {
		return err
	}
	return bowline.FirstDifference("room for "+r.Bridge, found)
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyNetdev:
		return "netdev"
	}
	return "bridge"
}
