package volume

import (
	"fmt"

	"github.com/bowline-net/bowline"
)

// Plan returns what from has to send so that to has the snapshot of that name;
// ok is false if it has it already. The base is the newest snapshot up to that
// one which both have.
//
// The error is a [*ConflictError] if to has something that sending would have
// to lose or hide, and wraps [bowline.ErrUnknown] if from has no such snapshot.
func Plan(from, to Replica, name string) (d Delta, ok bool, err error) {
	want, there := from.named(name)
	if !there {
		return Delta{}, false, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("snapshot %q is not there: %s", name, from))
	}
	if _, has := to.find(want.ID); has {
		return Delta{}, false, nil
	}
	conflict := func(reason Reason, at Snapshot) error {
		return &ConflictError{Reason: reason, At: at, From: from, To: to}
	}
	if other, taken := to.named(name); taken {
		return Delta{}, false, conflict(NameTaken, other)
	}
	for i, s := range to.Snapshots {
		if _, known := from.find(s.ID); known {
			continue
		}
		if _, shared := common(from, Replica{Snapshots: to.Snapshots[:i]}); shared {
			return Delta{}, false, conflict(Diverged, s)
		}
	}
	d.To = want
	if base, shared := common(upTo(from, want), to); shared {
		d.Base = &base
		return d, true, nil
	}
	if _, shared := common(from, to); !shared && len(to.Snapshots) > 0 {
		return Delta{}, false, conflict(Unrelated, to.Snapshots[0])
	}
	return d, true, nil
}

// upTo returns r without what is newer than s.
func upTo(r Replica, s Snapshot) Replica {
	for i := range r.Snapshots {
		if r.Snapshots[i].ID == s.ID {
			return Replica{Host: r.Host, Snapshots: r.Snapshots[:i]}
		}
	}
	return r
}

// common returns the newest snapshot of a that b has too.
func common(a, b Replica) (Base, bool) {
	for i := len(a.Snapshots) - 1; i >= 0; i-- {
		if _, has := b.find(a.Snapshots[i].ID); has {
			return a.Snapshots[i], true
		}
	}
	return Base{}, false
}

// A Reason is why a snapshot cannot be sent.
type Reason string

// The reasons of a [ConflictError].
const (
	// NameTaken: there is another snapshot of that name.
	NameTaken Reason = "has another snapshot of that name"
	// Diverged: after the last common snapshot, one was taken there.
	Diverged Reason = "went its own way after the last common snapshot"
	// Unrelated: both have snapshots, and none is common.
	Unrelated Reason = "has nothing in common with it"
)

// A ConflictError says that to has something of its own in the way: At. It wraps
// [bowline.ErrConflict].
type ConflictError struct {
	Reason   Reason
	At       Snapshot
	From, To Replica
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s %s, see its snapshot %s: %s; %s", e.To.Host, e.Reason, e.At.Name, e.From, e.To)
}

func (e *ConflictError) Unwrap() error { return bowline.ErrConflict }
