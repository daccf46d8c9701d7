package clustertest

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
)

// ttl is what leases are asked for: long enough that a busy machine renews them.
const ttl = 3 * time.Second

func grant(t *testing.T, s cluster.Store) cluster.Lease {
	t.Helper()
	l, err := s.Grant(patient(t), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func isLost(l cluster.Lease) bool {
	select {
	case <-l.Lost():
		return true
	default:
		return false
	}
}

func awaitLost(t *testing.T, l cluster.Lease) {
	t.Helper()
	select {
	case <-l.Lost():
	case <-patient(t).Done():
		t.Fatalf("the lease is not lost after %s", patience)
	}
}

func lease(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	watch := follow(t, s, at(t))
	l, other := grant(t, s), grant(t, s)
	commit(t, s, cluster.PutLeased(at(t)+"a", "1", l), cluster.PutLeased(at(t)+"b", "1", l), cluster.PutLeased(at(t)+"other", "1", other))
	commit(t, s, cluster.PutLeased(at(t)+"freed", "1", l), cluster.PutLeased(at(t)+"moved", "1", l))
	commit(t, s, cluster.Put(at(t)+"freed", "2"), cluster.PutLeased(at(t)+"moved", "2", other))
	watch.until(list(t, s, at(t)).Entries)
	if err := l.Revoke(patient(t)); err != nil {
		t.Fatal(err)
	}
	if !isLost(l) {
		t.Error("a revoked lease is not lost")
	}
	if c := watch.next(); len(c.Events) != 2 || c.Events[0].New.Exists() || c.Events[1].New.Exists() {
		t.Errorf("revoking is %+v, want that a and b go in one change", c)
	}
	for _, key := range []string{"freed", "moved", "other"} {
		if !list(t, s, at(t)).Entries[at(t)+key].Exists() {
			t.Errorf("%s went with a lease that it was not under", key)
		}
	}
	if err := l.Revoke(patient(t)); err != nil {
		t.Errorf("revoking a lost lease: %v", err)
	}
	_, err := s.Commit(patient(t), cluster.Txn{Then: []cluster.Op{cluster.Put(at(t)+"not", ""), cluster.PutLeased(at(t)+"a", "2", l)}})
	wantErr(t, "put under a revoked lease", err, cluster.ErrLeaseLost)
	if list(t, s, at(t)+"not").Entries[at(t)+"not"].Exists() {
		t.Error("half of a transaction was done")
	}
	for _, bad := range []time.Duration{0, -time.Second, time.Second / 2, 3 * time.Second / 2} {
		_, err := s.Grant(patient(t), bad)
		wantErr(t, "lease of "+bad.String(), err, bowline.ErrInvalid)
	}
}

// leaseLost cuts off one of two nodes: it knows, and its entry goes, while the
// other's is renewed.
func leaseLost(t *testing.T, c Cluster) {
	near, _ := c.Client(t)
	far, cut := c.Client(t)
	kept, lost := grant(t, near), grant(t, far)
	commit(t, near, cluster.PutLeased(at(t)+"near", "", kept))
	commit(t, far, cluster.PutLeased(at(t)+"far", "", lost))
	watch := follow(t, near, at(t))
	cut(true)
	for range 40 {
		c.Pass(ttl / 10)
	}
	awaitLost(t, lost)
	if change := watch.next(); len(change.Events) != 1 || change.Events[0].Key != at(t)+"far" || change.Events[0].New.Exists() {
		t.Errorf("change is %+v, want that the entry of the node that was cut off goes", change)
	}
	if isLost(kept) {
		t.Error("a lease that could be renewed was not")
	}
	cut(false)
	_, err := far.Commit(patient(t), cluster.Txn{Then: []cluster.Op{cluster.PutLeased(at(t)+"far", "", lost)}})
	for errors.Is(err, bowline.ErrUnavailable) { // it connects again
		_, err = far.Commit(patient(t), cluster.Txn{Then: []cluster.Op{cluster.PutLeased(at(t)+"far", "", lost)}})
	}
	wantErr(t, "put under a lost lease", err, cluster.ErrLeaseLost)
	watch.silent(near, at(t)+"after")
	commit(t, far, cluster.PutLeased(at(t)+"far", "again", grant(t, far)))
}

// cancelled ends contexts before and while the store is asked.
func cancelled(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	watch := follow(t, s, at(t))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Commit(ended, cluster.Txn{Then: []cluster.Op{cluster.Put(at(t)+"a", "")}})
	wantErr(t, "commit", err, context.Canceled)
	_, err = s.List(ended, at(t), 0)
	wantErr(t, "list", err, context.Canceled)
	_, err = s.Grant(ended, ttl)
	wantErr(t, "grant", err, context.Canceled)
	_, err = watch.watch.Next(ended)
	wantErr(t, "watch", err, context.Canceled)
	_, err = s.Watch(at(t), cluster.View{}).Next(ended)
	wantErr(t, "new watch", err, context.Canceled)
	l := grant(t, s)
	wantErr(t, "revoke", l.Revoke(ended), context.Canceled)
	if isLost(l) {
		t.Error("a lease that could not be revoked is lost")
	}

	waiting, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := watch.watch.Next(waiting)
		done <- err
	}()
	cancel()
	wantErr(t, "waiting", <-done, context.Canceled)
	watch.silent(s, at(t)+"b")
	if got := list(t, s, at(t)).Entries; len(got) != 1 {
		t.Errorf("the store holds %v, want b", got)
	}
}

// unreachable asks without a connection.
func unreachable(t *testing.T, c Cluster) {
	s, cut := c.Client(t)
	commit(t, s, cluster.Put(at(t)+"a", "1"))
	cut(true)
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.Commit(short, cluster.Txn{Then: []cluster.Op{cluster.Put(at(t)+"a", "2")}})
	wantErr(t, "commit", err, bowline.ErrUnavailable, context.DeadlineExceeded)
	_, err = s.List(short, at(t), 0)
	wantErr(t, "list", err, bowline.ErrUnavailable, context.DeadlineExceeded)
	cut(false)
	awaitReach(t, s)
	if view := list(t, s, at(t)); view.Entries[at(t)+"a"].Value != "1" {
		t.Errorf("after it: %v", view.Entries)
	}
}

// awaitReach waits until the client has found the store again.
func awaitReach(t *testing.T, s cluster.Store) {
	t.Helper()
	ctx := patient(t)
	_, err := s.List(ctx, at(t), 0)
	for err != nil && ctx.Err() == nil {
		_, err = s.List(ctx, at(t), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// closed closes a client that is in use.
func closed(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	watch := follow(t, s, at(t))
	l := grant(t, s)
	done := make(chan error)
	go func() {
		_, err := watch.watch.Next(t.Context())
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		wantErr(t, "waiting", err, bowline.ErrUnavailable)
	case <-patient(t).Done():
		t.Fatal("closing does not end waiting")
	}
	awaitLost(t, l)
	_, err := s.Commit(patient(t), cluster.Txn{Then: []cluster.Op{cluster.Put(at(t)+"a", "")}})
	wantErr(t, "commit", err, bowline.ErrUnavailable)
	_, err = s.List(patient(t), at(t), 0)
	wantErr(t, "list", err, bowline.ErrUnavailable)
	_, err = s.Grant(patient(t), ttl)
	wantErr(t, "grant", err, bowline.ErrUnavailable)
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// leaderStopped takes the leader away under a watch and a lease.
func leaderStopped(t *testing.T, c Cluster) {
	if c.StopLeader == nil {
		return // a store of one member
	}
	s, _ := c.Client(t)
	watch := follow(t, s, at(t))
	l, err := s.Grant(patient(t), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, cluster.PutLeased(at(t)+"leased", "", l), cluster.Put(at(t)+"before", ""))
	watch.next()
	old := watch.head
	c.StopLeader(t)
	ctx := patient(t)
	for { // until there is another one; what was done and not answered is found
		r, err := s.Commit(ctx, cluster.Txn{If: []cluster.Check{cluster.Absent(at(t) + "after")}, Then: []cluster.Op{cluster.Put(at(t)+"after", "")}})
		if err == nil && (r.Committed || r.Found[at(t)+"after"].Exists()) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("no new leader after %s: %v", patience, err)
		}
	}
	change := watch.next()
	if len(change.Events) != 1 || change.Events[0].Key != at(t)+"after" || change.Rewound {
		t.Errorf("change is %+v, want what came after the leader", change)
	}
	if view := list(t, s, at(t)); view.Head.Term <= old.Term || len(view.Entries) != 3 || isLost(l) {
		t.Errorf("view is %+v, lost is %v; want a later term and three entries", view, isLost(l))
	}
	watch.silent(s, at(t)+"last")
}

// restored brings an older state back. The watch says so by itself, though
// nothing happens in its range.
func restored(t *testing.T, c Cluster) {
	if c.Backup == nil {
		return // a store that only its administrator restores
	}
	s, _ := c.Client(t)
	commit(t, s, cluster.Put(at(t)+"a", "1"), cluster.Put(at(t)+"b", "1"))
	was := list(t, s, at(t))
	restore := c.Backup(t)
	awaitReach(t, s)
	commit(t, s, cluster.Put(at(t)+"a", "2"), cluster.Put(at(t)+"c", "2"))
	commit(t, s, cluster.Delete(at(t)+"b"))
	far, cut := c.Client(t)
	watch := follow(t, far, at(t))
	watch.silent(s, at(t)+"e") // so that it streams
	known := watch.head
	cut(true) // so that nobody says goodbye
	restore(t)
	cut(false)
	awaitReach(t, s)
	change := watch.next()
	if !change.Relisted || !change.Rewound || len(change.Events) != 4 {
		t.Errorf("change is %+v, want that the store was rewound", change)
	}
	if !maps.Equal(watch.entries, was.Entries) {
		t.Errorf("the watch shows %v, want %v", watch.entries, was.Entries)
	}
	if watch.head.Revision >= known.Revision {
		t.Errorf("revision %d is not before %d", watch.head.Revision, known.Revision)
	}
	watch.silent(s, at(t)+"d")
}
