// Package volume is the words and the plans of volumes: what they are called,
// what must be true of a back-end that keeps them, and what has to be sent so
// that another pool has a snapshot too. It touches no file.
//
// A volume is a directory that containers mount. Its snapshots never change, and
// have an ID that a copy in another pool keeps: two snapshots with one ID are
// equal. That is what a base is found by, so the plan needs two lists and
// nothing else.
package volume

import (
	"fmt"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
)

// A Volume is what people know of one.
type Volume struct {
	Name    string            `json:"name"`
	Size    uint64            `json:"size,omitempty"` // bytes that it may hold; 0: as many as the pool has
	Labels  map[string]string `json:"labels,omitempty"`
	Owner   Owner             `json:"owner"`
	Created time.Time         `json:"created"`
}

// An Owner is the host whose containers may write to a volume. Of two owners
// that claim one, the greater epoch is right.
type Owner struct {
	Host  string `json:"host"`
	Epoch uint64 `json:"epoch"`
}

// An ID tells a snapshot from all others, in all pools: 16 bytes in hex.
type ID string

// A Snapshot is a volume as it was at one moment.
type Snapshot struct {
	Name    string    `json:"name"`
	ID      ID        `json:"id"`
	Created time.Time `json:"created"` // where it was taken, or else received
}

// A Base is a snapshot that both sides of a transfer have.
type Base = Snapshot

// A Delta is what has to be sent: To, to a side that has Base. Without a Base it
// is all of To.
type Delta struct {
	Base *Base    `json:"base,omitempty"`
	To   Snapshot `json:"to"`
}

// Onto returns the name of the snapshot that the delta is based on among those
// that the volume has, or "" if it is all of its snapshot. The error wraps
// [bowline.ErrConflict] if what it brings is there already, by name or ID, and
// [bowline.ErrUnknown] if its base is not.
func (d Delta) Onto(name string, have []Snapshot) (base string, err error) {
	for _, s := range have {
		if d.Base != nil && s.ID == d.Base.ID {
			base = s.Name
		}
		if s.ID == d.To.ID || s.Name == d.To.Name {
			return "", fmt.Errorf("snapshot %q of volume %q exists: %w", s.Name, name, bowline.ErrConflict)
		}
	}
	if d.Base != nil && base == "" {
		return "", fmt.Errorf("snapshot %q (%.8s) of volume %q, which the stream is based on: %w", d.Base.Name, d.Base.ID, name, bowline.ErrUnknown)
	}
	return base, nil
}

func (d Delta) String() string {
	if d.Base == nil {
		return "all of " + d.To.Name
	}
	return d.Base.Name + " to " + d.To.Name
}

// A Replica is one pool's snapshots of a volume, oldest first.
type Replica struct {
	Host      string     `json:"host"`
	Snapshots []Snapshot `json:"snapshots"`
}

// find returns the snapshot with that ID.
func (r Replica) find(id ID) (Snapshot, bool) {
	for _, s := range r.Snapshots {
		if s.ID == id {
			return s, true
		}
	}
	return Snapshot{}, false
}

// named returns the snapshot of that name.
func (r Replica) named(name string) (Snapshot, bool) {
	for _, s := range r.Snapshots {
		if s.Name == name {
			return s, true
		}
	}
	return Snapshot{}, false
}

func (r Replica) String() string {
	names := make([]string, len(r.Snapshots))
	for i, s := range r.Snapshots {
		names[i] = fmt.Sprintf("%s (%.8s)", s.Name, s.ID)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return r.Host + " has " + strings.Join(names, ", ")
}

// maxName is how long a name may be, in bytes: it is a directory's.
const maxName = 128

// CheckName returns an error that wraps [bowline.ErrInvalid] unless name will do
// for a volume or, by what, for a snapshot: 1 to 128 of A-Z, a-z, 0-9, dot, dash
// and underscore, a letter or a digit first.
func CheckName(what, name string) error {
	ok := len(name) > 0 && len(name) <= maxName
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && (c == '.' || c == '-' || c == '_'))
	}
	if ok {
		return nil
	}
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s %.140q: want 1 to %d letters, digits, dots, dashes or underscores, a letter or a digit first", what, name, maxName))
}
