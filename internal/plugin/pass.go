package plugin

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// batch is how many targets are held at once at most: a removal waits that long.
const batch = 64

// heldFor is how long others hold a target, mostly.
const heldFor = 100 * time.Millisecond

// once makes passes until nobody else holds what differs, or for two seconds.
func (in *inspector) once(ctx context.Context, repair bool) (all []Finding, err error) {
	for until := time.Now().Add(2 * time.Second); ; pause(ctx, heldFor) {
		fs, perr := in.pass(ctx, nil, repair)
		err = errors.Join(err, perr)
		if !repair {
			all = nil
		}
		all = append(all, fs...)
		if in.again.IsZero() || in.again.After(until) || ctx.Err() != nil {
			return all, err
		}
	}
}

// pass compares all targets, and looks again at those that differ while nobody
// can remove them: then it repairs, if that is asked for, and tells what was
// found. It looks into the sandboxes for which look is true; nil: into all. The
// error tells of damaged records.
func (in *inspector) pass(ctx context.Context, look func(target) bool, repair bool) ([]Finding, error) {
	if look == nil { // else what waits for another look may not be among what is looked at
		in.again = time.Time{}
	}
	var all []Finding
	var rerr error
	if repair {
		all, rerr = in.reclaim(ctx)
	}
	ts, err := in.targets(ctx)
	err = errors.Join(rerr, err)
	var differing []target
	for i, found := range in.diff(ctx, ts, look) {
		if len(found.Found) > 0 || found.Err != nil {
			differing = append(differing, ts[i])
		}
	}
	for len(differing) > 0 && ctx.Err() == nil {
		n := min(batch, len(differing))
		all = append(all, in.settle(ctx, differing[:n], ts, repair)...)
		differing = differing[n:]
	}
	return all, err
}

// settle looks at targets again, and repairs them, while they are held. What is
// being removed is left alone.
func (in *inspector) settle(ctx context.Context, differing, all []target, repair bool) []Finding {
	h := holder{in: in, releases: map[string]func(){}}
	defer h.release()
	// Commands that change what an endpoint is to be wait meanwhile.
	unlock, err := state.OpenEndpoints().Serving(in.Name)
	if err != nil {
		return []Finding{{Driver: in.Name, Error: err.Error()}}
	}
	defer unlock()
	var held []target
	for _, t := range differing {
		if h.hold(ctx, &t, all) {
			held = append(held, t)
		}
	}
	if !repair {
		return in.findings(held, in.diff(ctx, held, nil), nil)
	}
	done := in.repair(ctx, held)
	return in.findings(held, done, in.diff(ctx, held, nil))
}

// A holder holds targets.
type holder struct {
	in       *inspector
	releases map[string]func() // by what is held
}

func (h *holder) release() {
	for _, r := range h.releases {
		r()
	}
}

// hold keeps others from removing the target, and reads its record again. It
// reports whether it is still there. A network of CNI has no record: it is
// there as long as one of its endpoints is.
func (h *holder) hold(ctx context.Context, t *target, all []target) bool {
	if t.docker != nil || !t.isNetwork() {
		return h.take(t.holdKey()) && t.reread(ctx, h.in.Name)
	}
	for _, e := range all {
		if e.network == t.network && !e.isNetwork() && h.hold(ctx, &e, nil) {
			return true
		}
	}
	return false
}

func (h *holder) take(k holdKey) bool {
	name := k.network + "\x00" + k.id
	if h.releases[name] != nil {
		return true
	}
	release, ok := state.OpenEndpoints().TryHold(h.in.Name, k.network, k.id)
	if !ok { // it is being removed, or another process repairs it
		h.in.lookAgain(time.Now().Add(heldFor))
		return false
	}
	h.releases[name] = release
	return true
}

// findings says what was found at the targets; after is how they differ after a
// repair, or nil.
func (in *inspector) findings(ts []target, found, after []bowline.Inspection) []Finding {
	var all []Finding
	for i, t := range ts {
		left, err := found[i].Found, found[i].Err
		if after != nil {
			left = after[i].Found
			if err == nil {
				err = after[i].Err
			}
		}
		one := func(d bowline.Difference, repaired bool) {
			f := in.finding(t, d)
			if f.Repaired = repaired; !repaired && err != nil {
				f.Error = err.Error()
			}
			all = append(all, f)
		}
		for _, d := range found[i].Found {
			if !slices.ContainsFunc(left, func(l bowline.Difference) bool { return same(l, d) }) {
				one(d, true)
			}
		}
		for _, d := range left {
			one(d, false)
		}
		if err != nil && len(left) == 0 {
			one(bowline.Difference{}, false)
		}
	}
	return all
}

// same reports whether the two are about the same thing.
func same(a, b bowline.Difference) bool {
	return a.Place == b.Place && a.Key == b.Key && a.Want == b.Want
}
