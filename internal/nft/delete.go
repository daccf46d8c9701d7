package nft

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// comments returns the comment of an endpoint's elements: what tells whose
// they are, to people and to us. The hash leads because the kernel limits a
// comment to about 250 bytes and IDs can be long.
func comments(network, endpoint string) string {
	return fmt.Sprintf("%s%s %.90s %.90s", networkTag(network), tag(endpoint), endpoint, network)
}

func networkTag(network string) string { return tag(network) + "/" }

func tag(id string) string {
	d := sha256.Sum256([]byte(id))
	return hex.EncodeToString(d[:8])
}

// DeleteEndpoint removes the endpoint's elements. If e says which they are that
// takes one transaction; what e does not say, or what is not as e says, is
// found by comment. It succeeds if there are none.
func (h *Handle) DeleteEndpoint(ctx context.Context, n Network, e Endpoint) error {
	what := fmt.Sprintf("delete firewall elements of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err := h.with(func(c *nftables.Conn) error {
		if es := append(e.elements(n), e.policyElements(h.site(), n)...); len(es) > 0 && !e.Unsure {
			err := flush(c, es, (*nftables.Conn).SetDeleteElements)
			if err == nil || !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		return deleteWhere(c, networkTag(n.ID)+tag(e.ID))
	})
	if errors.Is(err, unix.EPERM) { // what only another process may change holds nothing of ours
		err = h.with(func(c *nftables.Conn) error { return deleteWhere(c, networkTag(n.ID)+tag(e.ID)) })
	}
	if err == nil && (len(e.Policy) > 0 || e.Unsure) {
		err = h.prunePolicies(e.Policy)
	}
	return failure(what, err)
}

// deleteWhere removes all endpoint elements whose comment starts with prefix.
func deleteWhere(c *nftables.Conn, prefix string) error {
	// Somebody may delete the same elements at the same time; then nothing of
	// the transaction happened, and another look shows what is left.
	for try := 0; ; try++ {
		found, err := endpointElements(c, prefix)
		if err != nil || len(found) == 0 {
			return err
		}
		err = flush(c, found, (*nftables.Conn).SetDeleteElements)
		if err == nil || !errors.Is(err, unix.ENOENT) || try == 100 {
			return err
		}
	}
}

// endpointElements returns the endpoint elements whose comment starts with prefix.
func endpointElements(c *nftables.Conn, prefix string) ([]element, error) {
	policies, err := atBridges().endpointMaps(c)
	if err != nil {
		return nil, err
	}
	found, err := portElements(c, prefix)
	if err != nil {
		return nil, err
	}
	for _, s := range append(policies, allowed(), guarded()) {
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

// dump returns the elements of the set, none if there is no such set.
func dump(c *nftables.Conn, s *nftables.Set) ([]nftables.SetElement, error) {
	es, err := c.GetSetElements(s)
	if err != nil && notExist(err) {
		return nil, nil
	}
	return es, err
}

// notExist reports whether a read failed because there is no such thing. The
// library formats the errors of reads without wrapping them.
func notExist(err error) bool {
	return errors.Is(err, unix.ENOENT) || strings.Contains(err.Error(), unix.ENOENT.Error())
}

// DeleteNetwork removes the network's elements and those of its endpoints, and
// our tables with the last network. It succeeds if there is nothing.
func (h *Handle) DeleteNetwork(ctx context.Context, n Network) error {
	what := fmt.Sprintf("delete firewall elements of network %q", n.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	// Nobody may add elements between the look at an empty table and its
	// deletion.
	unlock, err := h.lock(unix.LOCK_EX)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	return failure(what, h.with(func(c *nftables.Conn) error {
		if err := deleteWhere(c, networkTag(n.ID)); err != nil {
			return err
		}
		ours, err := ourTables(c)
		if err != nil {
			return err
		}
		for _, f := range []family{ipv4(), ipv6()} {
			if !ours[f.table.Family] {
				continue
			}
			if err := deleteBridge(c, f, n.Bridge); err != nil {
				return err
			}
			if err := pruneChains(c, f); err != nil {
				return err
			}
			if err := prunePorts(c, f); err != nil {
				return err
			}
			if err := pruneTable(c, f.table, f.into(), f.masq()); err != nil {
				return err
			}
		}
		if !ours[nftables.TableFamilyBridge] {
			return nil
		}
		if err := h.pruneUnused(c); err != nil {
			return err
		}
		return pruneTable(c, bridgeTable(), guarded(), allowed(), atBridges().policyFrom(), atBridges().policyTo())
	}))
}

func deleteBridge(c *nftables.Conn, f family, bridge string) error {
	key := string(name16(bridge))
	var found []element
	for _, s := range []*nftables.Set{f.pair(), f.from(), f.to(), f.into(), f.trusted(), f.masq(), f.portHide(), f.portLocal(), f.portHome()} {
		all, err := dump(c, s)
		if err != nil {
			return err
		}
		for _, e := range all {
			if strings.HasPrefix(string(e.Key), key) {
				found = append(found, element{s, e})
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return flush(c, found, (*nftables.Conn).SetDeleteElements)
}

// pruneChains removes the chains that no element refers to; the kernel refuses
// the others.
func pruneChains(c *nftables.Conn, f family) error {
	all, err := c.ListChainsOfTableFamily(f.table.Family)
	if err != nil {
		return err
	}
	for _, ch := range all {
		ours := ch.Table.Name == Table && ch.Name != portHideAll
		if !ours || !strings.HasPrefix(ch.Name, "masq-") && !strings.HasPrefix(ch.Name, portHide) && !strings.HasPrefix(ch.Name, portIf) {
			continue
		}
		c.FlushChain(ch)
		c.DelChain(ch)
		if err := c.Flush(); err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func pruneTable(c *nftables.Conn, t *nftables.Table, sets ...*nftables.Set) error {
	for _, s := range sets {
		es, err := dump(c, s)
		if err != nil || len(es) > 0 {
			return err
		}
	}
	c.DelTable(t)
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// DeleteOthers removes the elements of all endpoints of the network but those
// in keep.
func (h *Handle) DeleteOthers(ctx context.Context, network string, keep []string) error {
	what := fmt.Sprintf("delete stale firewall elements of network %q", network)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	kept := map[string]bool{}
	for _, id := range keep {
		kept[tag(id)] = true
	}
	return failure(what, h.with(func(c *nftables.Conn) error {
		found, err := endpointElements(c, networkTag(network))
		if err != nil {
			return err
		}
		stale := map[string]bool{}
		for _, e := range found {
			t, _, _ := strings.Cut(strings.TrimPrefix(e.Comment, networkTag(network)), " ")
			stale[t] = !kept[t]
		}
		var errs []error
		for t, is := range stale {
			if is {
				errs = append(errs, deleteWhere(c, networkTag(network)+t))
			}
		}
		return errors.Join(errs...)
	}))
}
