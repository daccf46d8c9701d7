package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ReplacePolicy makes the endpoint's policy e.Policy, in place of what it was, in
// one transaction, and forgets what it had allowed. Its counts start anew.
func (h *Handle) ReplacePolicy(ctx context.Context, n Network, e Endpoint) error {
	what := fmt.Sprintf("replace the policy of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	unlock, err := h.lock(unix.LOCK_EX) // so that nobody takes away what is set up
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	return failure(what, h.with(func(c *nftables.Conn) error {
		was, err := h.site().policyElementsOf(c, networkTag(n.ID)+tag(e.ID))
		if err != nil {
			return err
		}
		if err := queue(c, was, (*nftables.Conn).SetDeleteElements); err != nil {
			return err
		}
		if err := e.setUpPolicy(c, h.site()); err != nil {
			return err
		}
		if err := flush(c, e.policyElements(h.site(), n), (*nftables.Conn).SetAddElements); err != nil {
			return err
		}
		if err := h.site().forgetFlows(c, e.Port); err != nil {
			return err
		}
		return h.pruneUnused(c)
	}))
}

// policyElementsOf returns those whose comment starts with prefix.
func (t site) policyElementsOf(c *nftables.Conn, prefix string) ([]element, error) {
	maps, err := t.endpointMaps(c)
	if err != nil {
		return nil, err
	}
	var found []element
	for _, s := range maps {
		all, err := dump(c, s)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if strings.HasPrefix(e.Comment, prefix) {
				found = append(found, element{s, e})
			}
		}
	}
	return found, nil
}

// forgetFlows removes what was allowed at that link. It costs time by
// all that is remembered.
func (t site) forgetFlows(c *nftables.Conn, link string) error {
	for _, s := range t.memories() {
		// What ends by itself between the look and the deletion makes that fail
		// as a whole.
		for try := 0; ; try++ {
			all, err := dump(c, s)
			if err != nil {
				return err
			}
			var mine []element
			for _, e := range all {
				if bytes.HasPrefix(e.Key, name16(link)) {
					mine = append(mine, element{s, nftables.SetElement{Key: e.Key}})
				}
			}
			if len(mine) == 0 {
				break
			}
			err = flush(c, mine, (*nftables.Conn).SetDeleteElements)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOENT) || try == 10 {
				return err
			}
		}
	}
	return nil
}
