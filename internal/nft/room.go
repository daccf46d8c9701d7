package nft

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
)

// A verdict to accept in our table does not overrule a drop in another's. When
// Docker or ufw has set the policy of iptables' FORWARD chain to drop, traffic
// of our bridges needs an exception in the chain that they leave to others,
// DOCKER-USER or ufw-after-forward. Ours are in a chain of our own, so that they
// can be told from the user's, and each names its bridge. firewalld rejects what
// it has no zone for; its zone for what may pass is "trusted".

// A Room is what a bridge needs of other owners' rulesets.
type Room struct {
	Bridge string
	// Everything may come in by this family; our own rules say what of it.
	Open4, Open6 bool
	Trusted      []string // links from which anything may come in
	Zone         string   // of firewalld; empty: trusted
}

// MakeRoom lets the bridge's traffic pass another owner's ruleset, if there is
// one that drops it and has a door for this. It takes a few questions to the
// kernel if there is none, or nothing is left to do.
func (h *Handle) MakeRoom(ctx context.Context, r Room) error {
	what := "make room for " + r.Bridge + " in another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	others, err := h.others()
	if err != nil {
		return failure(what, err)
	}
	if others.firewalld {
		if err := h.enterZone(r); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	for _, s := range rulesets() {
		if !s.legacy && !others.filter[s.family] {
			continue
		}
		v, err := h.look(s, r.Bridge)
		if err == nil && !v.has(s, r) {
			err = h.changeRoom(func() error { return s.makeRoom(r, v) }, func() []string { return s.sayRoom(r, v) })
		}
		if err != nil {
			return failure(what, err)
		}
	}
	return nil
}

// others are the tables of other owners that can be in a bridge's way.
type others struct {
	firewalld bool
	filter    map[nftables.TableFamily]bool // of iptables
}

// others asks one question, for each ADD asks it.
func (h *Handle) others() (o others, err error) {
	o.filter = map[nftables.TableFamily]bool{}
	err = h.with(func(c *nftables.Conn) error {
		tables, err := c.ListTables()
		for _, t := range tables {
			switch {
			case t.Name == "filter":
				o.filter[t.Family] = true
			case t.Name == "firewalld" && t.Family == nftables.TableFamilyINet:
				o.firewalld = true
			}
		}
		return err
	})
	return o, err
}

// GiveBackRoom removes what MakeRoom added for the bridge, and our chain with
// the last bridge. It succeeds if there is nothing.
func (h *Handle) GiveBackRoom(ctx context.Context, r Room) error {
	what := "remove room for " + r.Bridge + " from another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var errs []error
	if err := h.leaveZone(r); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", what, err))
	}
	for _, s := range rulesets() {
		v, err := h.look(s, r.Bridge)
		if err == nil && v.ours {
			err = h.changeRoom(func() error { return s.giveBackRoom(r.Bridge, v) }, func() []string { return s.sayGiveBack(r.Bridge) })
		}
		errs = append(errs, failure(what, err))
	}
	return errors.Join(errs...)
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
