package nft

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"

	todo "github.com/bowline-net/bowline/internal/plan"
)

// zone is the one of firewalld that the bridge is to be in.
func (r Room) zone() string {
	if r.Zone != "" {
		return r.Zone
	}
	return "trusted" // for what may pass
}

// zone reports whether firewalld rules this namespace, and whether it has a
// zone for the bridge. Which one is the user's choice.
func (h *Handle) zone(bridge string) (rules, has bool, err error) {
	err = h.with(func(c *nftables.Conn) error {
		t, err := c.ListTableOfFamily("firewalld", nftables.TableFamilyINet)
		if err != nil {
			return nil // no such table: the library has no error of its own for it
		}
		rules = true
		// Where it chooses the zone of what is forwarded, since 1.0 and before.
		for _, chain := range []string{"filter_FORWARD_ZONES", "filter_FORWARD_IN_ZONES"} {
			rs, err := c.GetRules(t, &nftables.Chain{Name: chain, Table: t})
			if err != nil && !notExist(err) {
				return err
			}
			has = has || slices.ContainsFunc(rs, func(r *nftables.Rule) bool { return names(r, bridge) })
		}
		return nil
	})
	return rules, has, err
}

// enterZone looks before it tells firewalld, whose command takes a third of a
// second. The assignment is gone when firewalld restarts or reloads.
func (h *Handle) enterZone(r Room) error {
	if rules, has, err := h.zone(r.Bridge); err != nil || !rules || has {
		return err
	}
	err := h.firewallCmd("--zone="+r.zone(), "--add-interface="+r.Bridge)
	if err != nil && strings.Contains(err.Error(), "ZONE_CONFLICT") {
		return nil // the user has chosen one since we looked
	}
	return err
}

func (h *Handle) leaveZone(r Room) error {
	if rules, has, err := h.zone(r.Bridge); err != nil || !rules || !has {
		return err
	}
	err := h.firewallCmd("--zone="+r.zone(), "--remove-interface="+r.Bridge)
	switch {
	case err == nil:
	case errors.Is(err, exec.ErrNotFound), strings.Contains(err.Error(), "not running"): // its rules outlive it
	case strings.Contains(err.Error(), "UNKNOWN_INTERFACE"): // it reloads just now
	case strings.Contains(err.Error(), "ZONE_CONFLICT"): // the user chose another zone
	default:
		return err
	}
	return nil
}

func (h *Handle) firewallCmd(args ...string) error {
	if h.dry != nil {
		h.dry.plan.Add(todo.Other, host, "firewall-cmd %s", strings.Join(args, " "))
		return nil
	}
	return h.inside(func() error {
		out, err := exec.Command("firewall-cmd", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("firewall-cmd %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}
