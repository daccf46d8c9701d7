package nft

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
)

// A verdict to accept in our table does not overrule a drop in another's. When
// Docker has set the policy of iptables' FORWARD chain to drop, traffic of our
// bridges needs an exception in the chain that Docker leaves to others,
// DOCKER-USER. Ours are in a chain of our own, so that they can be told from
// the user's, and each names its bridge. firewalld rejects what it has no zone
// for; its zone for what may pass is "trusted".

// MakeRoom lets the bridge's traffic pass another owner's ruleset, if there is
// one that drops it and has a door for this. It is a question or two to the
// kernel if there is none. made says that the bridge is new: firewalld, whose
// command takes a third of a second, is told of new bridges only.
func (h *Handle) MakeRoom(ctx context.Context, bridge string, made bool) error {
	what := "make room for " + bridge + " in another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if made {
		if err := h.tellFirewalld("--zone=trusted", "--change-interface="+bridge); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
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
	if err := h.tellFirewalld("--zone=trusted", "--remove-interface="+bridge); err != nil {
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

// tellFirewalld runs firewall-cmd if firewalld rules this namespace. An
// interface that no zone has is no error: its owner may have reloaded.
func (h *Handle) tellFirewalld(args ...string) error {
	err := h.with(func(c *nftables.Conn) error {
		_, err := c.ListTableOfFamily("firewalld", nftables.TableFamilyINet)
		return err
	})
	if err != nil {
		return nil // no such table: the library has no error of its own for it
	}
	return h.inside(func() error {
		out, err := exec.Command("firewall-cmd", args...).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "UNKNOWN_INTERFACE") {
			return fmt.Errorf("firewall-cmd %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	})
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
