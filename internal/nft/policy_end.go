package nft

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// prunePolicies removes what nobody needs any more after an endpoint with that
// policy is gone; after one whose policy is not known if that is empty. Nobody
// adds elements meanwhile.
func (h *Handle) prunePolicies(policy []bowline.PolicyRule) error {
	unlock, err := h.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	return h.with(func(c *nftables.Conn) error {
		if len(policy) > 0 {
			// Others have mostly the same policy, and a chain says how many do.
			if used, err := h.planUsed(planName(policy)); err != nil || used {
				return err
			}
		}
		return h.pruneUnused(c)
	})
}

// pruneUnused removes the plans that no endpoint has, and all that policies need
// if there is no other. Nobody may add elements meanwhile.
func (h *Handle) pruneUnused(c *nftables.Conn) error {
	var generation uint32
	if h.sandbox {
		var err error
		if generation, err = h.generation(); err != nil {
			return err
		}
	}
	have, alone, err := h.site().policyObjects(c)
	if err != nil || len(have) == 0 {
		return err
	}
	var unused, shared []policyObject
	used := map[string]bool{"": false}
	for _, o := range have {
		if _, asked := used[o.plan]; !asked {
			if used[o.plan], err = h.planUsed(o.plan); err != nil {
				return err
			}
		}
		switch {
		case o.plan == "":
			shared = append(shared, o)
		case !used[o.plan]:
			unused = append(unused, o)
		}
	}
	switch last := !slices.Contains(slices.Collect(maps.Values(used)), true); {
	case last && alone:
		if err := h.deleteTable(c, generation); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	case last:
		unused = append(unused, shared...)
	}
	if len(unused) == 0 {
		return nil
	}
	return h.site().flushAway(c, unused)
}

// planUsed reports whether an endpoint has the plan. Trying to remove it would
// tell as well, but takes the kernel 10 ms to take back.
func (h *Handle) planUsed(plan string) (bool, error) {
	for _, direction := range []string{egress, ingress} {
		use, err := h.chainUse(h.site().table, plan+"-"+direction)
		if err != nil {
			return false, err
		}
		if int(use) > len(h.site().planChain(plan, direction, 0).rules) {
			return true, nil
		}
	}
	return false, nil
}

// chainUse returns how many rules a chain of the table has, and how many
// rules and elements lead to it, in sum; 0 if there is none.
func (h *Handle) chainUse(t *nftables.Table, name string) (uint32, error) {
	answer, err := h.question(unix.NFT_MSG_GETCHAIN, t,
		attribute(unix.NFTA_CHAIN_TABLE, []byte(Table+"\x00")), attribute(unix.NFTA_CHAIN_NAME, []byte(name+"\x00")))
	if err != nil || answer == nil {
		return 0, err
	}
	ad, err := netlink.NewAttributeDecoder(answer)
	if err != nil {
		return 0, err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() == unix.NFTA_CHAIN_USE {
			return ad.Uint32(), ad.Err()
		}
	}
	return 0, ad.Err()
}

// A policyObject is a chain or a set, or both by one name.
type policyObject struct {
	name       string
	chain, set bool
	plan       string // whose it is; empty: all policies share it
}

// policyObjects returns those that there are, and whether our table has nothing
// else.
func (t site) policyObjects(c *nftables.Conn) (os []policyObject, alone bool, err error) {
	sets, err := t.setNames(c)
	if err != nil || len(sets) == 0 {
		return nil, false, err
	}
	chains, err := c.ListChainsOfTableFamily(t.table.Family)
	if err != nil {
		return nil, false, err
	}
	alone = true
	have := map[string]*policyObject{}
	object := func(name string) *policyObject {
		if have[name] == nil {
			have[name] = &policyObject{name: name}
			if strings.HasPrefix(name, policyPrefix) {
				have[name].plan = planOf(name)
			}
		}
		return have[name]
	}
	for _, ch := range chains {
		if ch.Table.Name != Table {
			continue
		}
		if strings.HasPrefix(ch.Name, policyPrefix) || t.isHook(ch.Name) {
			object(ch.Name).chain = true
		} else {
			alone = false
		}
	}
	for _, s := range sets {
		if strings.HasPrefix(s, policyPrefix) {
			object(s).set = true
		} else {
			alone = false
		}
	}
	for _, o := range have {
		os = append(os, *o)
	}
	return os, alone, nil
}

// planOf returns the plan that a set or a chain is named after, if any.
func planOf(name string) string {
	plan := len(policyPrefix) + 12
	if len(name) > plan && name[plan] == '-' {
		return name[:plan]
	}
	return ""
}

// setNames returns the names of the sets and maps of our table.
func (t site) setNames(c *nftables.Conn) ([]string, error) {
	if _, err := c.ListTableOfFamily(Table, t.table.Family); err != nil {
		return nil, nil // none: the library has no error of its own for it
	}
	sets, err := c.GetSets(t.table)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range sets {
		names = append(names, s.Name)
	}
	return names, nil
}

// hitMaps returns the maps of rules that there are, with the rule's number.
func (t site) hitMaps(c *nftables.Conn) (map[string]int, error) {
	names, err := t.setNames(c)
	maps := map[string]int{}
	for _, name := range names {
		if plan := planOf(name); plan != "" && strings.HasPrefix(name, policyPrefix) {
			if i, err := strconv.Atoi(name[len(plan)+1:]); err == nil {
				maps[name] = i
			}
		}
	}
	return maps, err
}

// endpointMaps returns the maps that have elements of endpoints.
func (t site) endpointMaps(c *nftables.Conn) ([]*nftables.Set, error) {
	maps, err := t.hitMaps(c)
	if len(maps) == 0 {
		return nil, err
	}
	all := []*nftables.Set{t.policyFrom(), t.policyTo(), t.policyLinks(), t.policyOther()}
	for name := range maps {
		all = append(all, t.policyHits(name))
	}
	return all, err
}

// flushAway removes the objects in one transaction: rules refer to maps, and
// these to chains.
func (t site) flushAway(c *nftables.Conn, os []policyObject) error {
	for _, o := range os {
		if o.chain {
			c.FlushChain(&nftables.Chain{Name: o.name, Table: t.table})
		}
	}
	for _, o := range os {
		if o.set {
			c.DelSet(&nftables.Set{Name: o.name, Table: t.table})
		}
	}
	for _, o := range os {
		if o.chain {
			c.DelChain(&nftables.Chain{Name: o.name, Table: t.table})
		}
	}
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// A Hit says how often a rule decided.
type Hit struct{ Packets, Bytes uint64 }

// PolicyHits returns how often each rule of each policy decided, by port: one
// for each rule, and last one each for ingress and egress that no rule met.
func (h *Handle) PolicyHits(ctx context.Context) (map[string][]Hit, error) {
	const what = "read the hits of policies"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	hits := map[string][]Hit{}
	err := h.with(func(c *nftables.Conn) error {
		maps, err := h.site().hitMaps(c)
		if err != nil {
			return err
		}
		for name, i := range maps {
			all, err := dump(c, h.site().policyHits(name))
			if err != nil {
				return err
			}
			for _, e := range all {
				port := string(bytes.TrimRight(e.Key, "\x00"))
				for len(hits[port]) <= i {
					hits[port] = append(hits[port], Hit{})
				}
				if e.Counter != nil {
					hits[port][i] = Hit{e.Counter.Packets, e.Counter.Bytes}
				}
			}
		}
		return nil
	})
	return hits, failure(what, err)
}
