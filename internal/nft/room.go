package nft

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
)

// A verdict to accept in our table does not overrule a drop in another's. When
// Docker has set the policy of iptables' FORWARD chain to drop, traffic of our
// bridges needs an exception in the chain that Docker leaves to others,
// DOCKER-USER. Ours are in a chain of our own, so that they can be told from
// the user's, and each names its bridge. firewalld rejects what it has no zone
// for; its zone for what may pass is "trusted".

// MakeRoom lets the bridge's traffic pass another owner's ruleset, if there is
// one that drops it and has a door for this. It takes a few questions to the
// kernel if there is none, or nothing is left to do.
func (h *Handle) MakeRoom(ctx context.Context, bridge string) error {
	what := "make room for " + bridge + " in another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := h.enterZone(bridge); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for _, d := range doors() {
		open, has, err := h.look(d, bridge)
		if err == nil && open && !has {
			err = h.change(func() error { return d.makeRoom(bridge) })
		}
		if err != nil {
			return failure(what, err)
		}
	}
	return nil
}

// GiveBackRoom removes what MakeRoom added for the bridge, and our chain with
// the last bridge. It succeeds if there is nothing.
func (h *Handle) GiveBackRoom(ctx context.Context, bridge string) error {
	what := "remove room for " + bridge + " from another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var errs []error
	if err := h.leaveZone(bridge); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", what, err))
	}
	for _, d := range doors() {
		open, _, err := h.look(d, bridge)
		if err == nil && open {
			err = h.change(func() error { return d.giveBackRoom(bridge) })
		}
		errs = append(errs, failure(what, err))
	}
	return errors.Join(errs...)
}

// CheckRoom returns nil if MakeRoom has nothing to do, or an error that wraps
// [bowline.ErrDiffers] and says where the bridge lacks room.
func (h *Handle) CheckRoom(ctx context.Context, bridge string) error {
	what := "check room for " + bridge + " in another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	rules, has, err := h.zone(bridge)
	if err != nil {
		return failure(what, err)
	}
	if rules && !has {
		return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("firewalld has no zone for %s, want %s", bridge, trusted))
	}
	for _, d := range doors() {
		open, has, err := h.look(d, bridge)
		if err != nil {
			return failure(what, err)
		}
		if open && !has {
			return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("chain %s of table %s filter lacks rules for %s", ourChain, familyName(d.family), bridge))
		}
	}
	return nil
}

func (h *Handle) inside(f func() error) error {
	if h.ns == nil {
		return f()
	}
	return netns.Do(h.ns, f)
}

// change runs f inside, alone: what it does takes several commands.
func (h *Handle) change(f func() error) error {
	unlock, err := h.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	return h.inside(f)
}
