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
