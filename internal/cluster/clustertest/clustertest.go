// Package clustertest is what every implementation of cluster.Store must do.
package clustertest

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/cluster"
)

// A Cluster is a store that the suite has for itself.
type Cluster struct {
	// Client returns a new client, which lives as long as the test, and what
	// takes its connection away and gives it back.
	Client func(t *testing.T) (s cluster.Store, cut func(bool))
	// Compact forgets what was before a revision.
	Compact func(t *testing.T, before int64)
	// Backup returns what brings the store back to where it is now.
	Backup func(t *testing.T) (restore func(t *testing.T))
	// Pass lets time pass, for a store whose clock does not by itself.
	Pass func(d time.Duration)
	// StopLeader takes the leader away, for a store that has several members.
	StopLeader func(t *testing.T)
}

// Run runs the suite. The parts run one after the other, for they share c.
func Run(t *testing.T, c Cluster) {
	if c.Pass == nil {
		c.Pass = func(time.Duration) {}
	}
	for _, part := range []struct {
		name string
		run  func(*testing.T, Cluster)
	}{
		{"Checks", checks}, {"OneWinner", oneWinner}, {"Bounds", bounds},
		{"ListAtRevision", listAtRevision},
		{"WatchOrder", watchOrder}, {"WatchKnown", watchKnown}, {"WatchCut", watchCut}, {"WatchCompacted", watchCompacted},
		{"Lease", lease}, {"LeaseLost", leaseLost},
		{"Cancelled", cancelled}, {"Unreachable", unreachable}, {"Closed", closed},
		{"LeaderStopped", leaderStopped}, {"Restored", restored},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, c) })
	}
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// at returns a range of the test's own.
func at(t *testing.T) string { return "/" + t.Name() + "/" }

func commit(t *testing.T, s cluster.Store, ops ...cluster.Op) cluster.Result {
	t.Helper()
	r, err := s.Commit(patient(t), cluster.Txn{Then: ops})
	if err != nil || !r.Committed {
		t.Fatalf("commit %v: %+v, %v", ops, r, err)
	}
	return r
}

func list(t *testing.T, s cluster.Store, at string) cluster.View {
	t.Helper()
	view, err := s.List(patient(t), at, 0)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// A replica is what somebody knows who has only what a watch says.
type replica struct {
	t       *testing.T
	watch   *cluster.Watch
	entries map[string]cluster.Entry
	head    cluster.Head
}

func follow(t *testing.T, s cluster.Store, at string) *replica {
	t.Helper()
	r := &replica{t: t, watch: s.Watch(at, cluster.View{}), entries: map[string]cluster.Entry{}}
	t.Cleanup(r.watch.Close)
	if c := r.next(); !c.Relisted || c.Rewound {
		t.Fatalf("the first change of a watch is %+v, want what is there", c)
	}
	return r
}

// next waits for a change, and checks that it leads on from what is known.
func (r *replica) next() cluster.Change {
	r.t.Helper()
	ctx := patient(r.t)
	c, err := r.watch.Next(ctx)
	for err != nil && ctx.Err() == nil { // connections come and go
		c, err = r.watch.Next(ctx)
	}
	if err != nil {
		r.t.Fatalf("waited %s for a change after %+v: %v", patience, r.head, err)
	}
	if !c.Rewound && !c.Head.Follows(r.head) {
		r.t.Fatalf("change leads from %+v to %+v", r.head, c.Head)
	}
	r.head = c.Head
	for _, e := range c.Events {
		if old := r.entries[e.Key]; old != e.Old {
			r.t.Fatalf("event %+v: known is %+v", e, old)
		}
		if e.New == e.Old {
			r.t.Fatalf("event %+v changes nothing", e)
		}
		if e.New.Exists() {
			r.entries[e.Key] = e.New
		} else {
			delete(r.entries, e.Key)
		}
	}
	return c
}

// until waits for changes until the replica is what the store holds, and
// returns them.
func (r *replica) until(want map[string]cluster.Entry) []cluster.Change {
	r.t.Helper()
	var all []cluster.Change
	for !maps.Equal(r.entries, want) {
		all = append(all, r.next())
	}
	return all
}

// silent checks that nothing is there to be said, with a change that follows
// it: the very next one said must be this.
func (r *replica) silent(s cluster.Store, key string) {
	r.t.Helper()
	put := commit(r.t, s, cluster.Put(key, "after"))
	c := r.next()
	if len(c.Events) != 1 || c.Events[0].Key != key || c.Head.Revision < put.Head.Revision || c.Relisted {
		r.t.Fatalf("next change is %+v, want that of %s at %d", c, key, put.Head.Revision)
	}
}

func wantErr(t *testing.T, what string, err error, causes ...error) {
	t.Helper()
	for _, cause := range causes {
		if errors.Is(err, cause) {
			return
		}
	}
	t.Errorf("%s: error is %v, want one of %v", what, err, causes)
}
