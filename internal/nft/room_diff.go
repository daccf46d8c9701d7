package nft

import (
	"context"
	"fmt"

	"github.com/bowline-net/bowline"
)

// DiffRoom returns what other owners' rulesets lack for the bridge.
func (s *Snapshot) DiffRoom(ctx context.Context, r Room) ([]bowline.Difference, error) {
	what := "compare room for " + r.Bridge + " in another firewall"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var found []bowline.Difference
	rules, has, err := s.h.zone(r.Bridge)
	if err != nil {
		return nil, failure(what, err)
	}
	if rules && !has {
		found = append(found, bowline.Difference{Place: "firewalld", Key: "zone for " + r.Bridge, Want: r.zone()})
	}
	for _, rs := range rulesets() {
		v, none := s.doors[rs]
		if !none {
			if v, err = s.h.look(rs, r.Bridge); err != nil {
				return found, failure(what, err)
			}
			if len(v.doors) == 0 { // then no bridge needs one
				s.doors[rs] = v
			}
		}
		blocked, err := s.h.blocked(rs, v)
		if err != nil {
			return found, failure(what, err)
		}
		found = append(found, v.lacks(rs, r, blocked)...)
	}
	return found, nil
}

// RepairRoom makes right what DiffRoom finds, and returns that.
func (s *Snapshot) RepairRoom(ctx context.Context, r Room) ([]bowline.Difference, error) {
	found, err := s.DiffRoom(ctx, r)
	if err != nil || len(found) == 0 {
		return found, err
	}
	clear(s.doors)
	if err := s.h.MakeRoom(ctx, r); err != nil {
		return found, err
	}
	for _, rs := range rulesets() {
		v, err := s.h.look(rs, r.Bridge)
		if err != nil {
			return found, err
		}
		blocked, err := s.h.blocked(rs, v)
		if err == nil && len(blocked) > 0 {
			err = s.h.change(func() error { return rs.unblock(blocked) })
		}
		if err != nil {
			return found, failure("repair room for "+r.Bridge+" in another firewall", err)
		}
	}
	return found, nil
}

// lacks says what there is to do.
func (v view) lacks(rs ruleset, r Room, blocked []string) []bowline.Difference {
	if len(v.doors) == 0 {
		return nil
	}
	table := "table " + familyName(rs.family) + " filter"
	if rs.legacy {
		table = "legacy " + table
	}
	var found []bowline.Difference
	if want := len(rs.rules(r)); v.rules != want {
		d := bowline.Difference{Place: "chain " + ourChain + " of " + table, Key: "rules for " + r.Bridge, Want: fmt.Sprint(want)}
		if v.rules > 0 {
			d.Have = fmt.Sprint(v.rules)
		}
		found = append(found, d)
	}
	for _, door := range v.closed {
		found = append(found, bowline.Difference{Place: "chain " + door + " of " + table, Key: "rule", Want: "-j " + ourChain})
	}
	for _, door := range blocked {
		found = append(found, bowline.Difference{Place: "chain FORWARD of " + table, Key: "rule", Want: "-j " + door})
	}
	return found
}
