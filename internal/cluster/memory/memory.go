// Package memory is the cluster's store in the memory of one process.
//
// It is a whole store, with revisions, compaction and leases, and answers as
// etcd does. It starts no goroutine: with a [Virtual] clock all that happens is
// what its callers do, in their order, so that a run can be repeated. What may
// go wrong between a node and the store, a [Client] does when it is told.
package memory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
)

// A Cluster is the store itself.
type Cluster struct {
	clock Clock

	mu        sync.Mutex // all below, and what clients and leases say of it
	head      cluster.Head
	compacted int64
	entries   map[string]record
	past      []revision // those that are not compacted, in order
	leases    map[int64]*held
	lastLease int64
	changed   chan struct{} // closed, and made anew, when a stream may have more to say
}

// A record is an entry, and the lease that it is under or 0.
type record struct {
	cluster.Entry
	lease int64
}

// A revision is what one transaction changed, or the end of one lease.
type revision struct {
	number int64
	steps  []change
}

// A change is a step and what it takes to go back.
type change struct {
	cluster.Step
	old cluster.Entry
}

// New returns an empty store whose leases run by clock.
func New(clock Clock) *Cluster {
	return &Cluster{
		clock: clock, head: cluster.Head{Cluster: 1, Term: 1, Revision: 1},
		entries: map[string]record{}, leases: map[int64]*held{}, changed: make(chan struct{}),
	}
}

// Client returns a client whose renewals run by the clock of its node.
func (c *Cluster) Client(clock Clock) *Client { return &Client{of: c, clock: clock} }

// Compact forgets what was before a revision. It returns cluster.ErrCompacted
// if that is forgotten already.
func (c *Cluster) Compact(before int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case before <= c.compacted:
		return cluster.ErrCompacted
	case before > c.head.Revision:
		return c.future(before)
	}
	c.compacted = before
	kept, _ := slices.BinarySearchFunc(c.past, before, func(r revision, n int64) int { return cmp.Compare(r.number, n) })
	c.past = slices.Clone(c.past[kept:])
	c.wake()
	return nil
}

// A Backup is a store at one revision. It can be restored more than once.
type Backup struct {
	head    cluster.Head
	entries map[string]record
	leases  map[int64]time.Duration
}

// Backup returns what the store holds now.
func (c *Cluster) Backup() Backup {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := Backup{c.head, maps.Clone(c.entries), map[int64]time.Duration{}}
	for id, l := range c.leases {
		b.leases[id] = l.ttl
	}
	return b
}

// Restore puts the store back to what it was at the backup, as a new cluster,
// with nothing known of what was before. Leases of the backup begin anew; one
// whose holder is gone runs out.
func (c *Cluster) Restore(b Backup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.head.Cluster
	for _, l := range c.leases {
		l.stop()
	}
	c.head = b.head
	c.head.Cluster = id + 1
	c.compacted, c.past = b.head.Revision, nil
	c.entries, c.leases = maps.Clone(b.entries), map[int64]*held{}
	for _, id := range slices.Sorted(maps.Keys(b.leases)) {
		c.leases[id] = c.hold(id, b.leases[id])
	}
	c.wake()
}

// wake has all streams look again. The caller holds c.mu.
func (c *Cluster) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Cluster) future(revision int64) error {
	return fmt.Errorf("%w: revision %d: the store has come to %d", bowline.ErrUnknown, revision, c.head.Revision)
}

// list returns the view of a range. The caller holds c.mu.
func (c *Cluster) list(at string, number int64) (cluster.View, error) {
	switch {
	case number > c.head.Revision:
		return cluster.View{}, c.future(number)
	case number == 0:
		number = c.head.Revision
	case number < c.compacted:
		return cluster.View{}, cluster.ErrCompacted
	}
	view := cluster.View{Head: c.head, Entries: map[string]cluster.Entry{}}
	view.Head.Revision = number
	for key, r := range c.entries {
		if cluster.Within(key, at) {
			view.Entries[key] = r.Entry
		}
	}
	for _, r := range slices.Backward(c.past) {
		if r.number <= number {
			break
		}
		for _, s := range slices.Backward(r.steps) {
			switch {
			case !cluster.Within(s.Key, at):
			case s.old.Exists():
				view.Entries[s.Key] = s.old
			default:
				delete(view.Entries, s.Key)
			}
		}
	}
	return view, nil
}

// commit does t, which is valid. The caller holds c.mu.
func (c *Cluster) commit(t cluster.Txn) (cluster.Result, error) {
	holds := true
	found := map[string]cluster.Entry{}
	for _, k := range t.If {
		e := c.entries[k.Key].Entry
		holds = holds && e == k.Entry
		if e.Exists() {
			found[k.Key] = e
		}
	}
	if !holds {
		return cluster.Result{Head: c.head, Found: found}, nil
	}
	for _, o := range t.Then {
		if o.Lease != 0 && c.leases[o.Lease] == nil {
			return cluster.Result{}, fmt.Errorf("put %s: %w", o.Key, cluster.ErrLeaseLost)
		}
	}
	c.change(t.Then)
	return cluster.Result{Head: c.head, Committed: true}, nil
}

// change does ops in one revision, or in none if they change nothing. The
// caller holds c.mu.
func (c *Cluster) change(ops []cluster.Op) {
	r := revision{number: c.head.Revision + 1}
	for _, o := range ops {
		old := c.entries[o.Key].Entry
		switch {
		case !o.Delete:
			e := cluster.Entry{Value: o.Value, Modified: r.number}
			c.entries[o.Key] = record{e, o.Lease}
			r.steps = append(r.steps, change{cluster.Step{Key: o.Key, Entry: e}, old})
		case old.Exists():
			delete(c.entries, o.Key)
			r.steps = append(r.steps, change{cluster.Step{Key: o.Key}, old})
		}
	}
	if len(r.steps) > 0 {
		c.head.Revision = r.number
		c.past = append(c.past, r)
		c.wake()
	}
}
