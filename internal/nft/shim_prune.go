package nft

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ExpelOthersFromShim ends the way to the host of the network's endpoints whose
// ID is not in keep. It succeeds if there is none.
func (h *Handle) ExpelOthersFromShim(ctx context.Context, network string, keep []string) error {
	what := fmt.Sprintf("expel stale endpoints of network %q from its shim", network)
	kept := map[string]bool{}
	for _, id := range keep {
		kept[tag(id)] = true
	}
	return h.withShim(ctx, what, "", unix.LOCK_SH, func(c *nftables.Conn) error {
		return h.again(func() (bool, error) {
			stale, _, err := shimElements(c, func(e element) bool {
				rest, ofNetwork := strings.CutPrefix(e.Comment, networkTag(network))
				id, _, _ := strings.Cut(rest, " ")
				return ofNetwork && !kept[id]
			})
			if err != nil || len(stale) == 0 {
				return true, err
			}
			return true, flush(c, stale, (*nftables.Conn).SetDeleteElements)
		})
	})
}

// ShimsWithoutPeers returns the links that have the filter of a shim, in no order,
// and lead to nobody any more.
func (h *Handle) ShimsWithoutPeers(ctx context.Context) ([]string, error) {
	var idle []string
	err := h.withShim(ctx, "list the filters of shims", "", unix.LOCK_SH, func(c *nftables.Conn) error {
		used := map[string]bool{}
		if _, _, err := shimElements(c, func(e element) bool {
			used[unix.ByteSliceToString(e.Key[:unix.IFNAMSIZ])] = true
			return false
		}); err != nil {
			return err
		}
		all, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
		if err != nil {
			return err
		}
		for _, ch := range all {
			link, shim := strings.CutPrefix(ch.Name, "shim-"+ingress+"-")
			if ch.Table.Name == Table && shim && !used[link] {
				idle = append(idle, link)
			}
		}
		return nil
	})
	return idle, err
}
