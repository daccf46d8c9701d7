// Package cluster is the store that the nodes of a cluster share: few keys with
// short values, changed by compare-and-swap, watched by everybody.
//
// What a caller must know is in [Store]; three implementations are held to it
// by the suite in clustertest: memory (here and now, for models and tests), etcd
// (a client of any etcd), and the etcd that member runs in our own process.
//
// A [Watch] is where such stores are used wrongly: the store forgets old
// revisions, a member lags, a backup is restored. So implementations only list
// and stream, and one loop, in this package, makes one promise of it: from the
// view that the caller has, each [Change] leads to a view that the store had.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
)

// Causes that callers tell apart, beside those of package bowline.
var (
	// ErrCompacted: the store has forgotten that revision.
	ErrCompacted = errors.New("revision is compacted")
	// ErrLeaseLost: the lease has ended, and what was put under it is gone.
	ErrLeaseLost = errors.New("lease is lost")
	// ErrRelist: what a stream would say next may not follow what it said. A
	// [Stream] returns it; callers of [Watch.Next] do not see it.
	ErrRelist = errors.New("list again")
)

// A Store is one client of the store. Its methods may be called by many
// goroutines at once.
//
// Errors wrap [bowline.ErrInvalid] for what can never work,
// [bowline.ErrUnavailable] if the store cannot be reached or has no leader, and
// the error of ctx when that ended first.
type Store interface {
	Source

	// Commit does all of t.Then in one revision if all of t.If holds, and says
	// what it found if not. After an error other than ErrInvalid and
	// ErrLeaseLost nobody knows whether it was done: look before trying again.
	Commit(ctx context.Context, t Txn) (Result, error)

	// Watch follows the entries at a key or below a prefix, see [Watch], from
	// what the caller knows already: a View of the same range, or the zero View.
	Watch(at string, known View) *Watch

	// Grant begins a lease, which is renewed until it is revoked, the store is
	// closed or it is lost. It lasts ttl without renewal, of whole seconds, or
	// longer if the store knows no time as short.
	Grant(ctx context.Context, ttl time.Duration) (Lease, error)

	// Close ends the connection and all waiting. Leases are not revoked: they
	// run out.
	Close() error
}

// A Source is what implementations provide below a [Watch].
type Source interface {
	// List returns what is at a key or, if at ends in "/", below it: now, which
	// is after all that was committed before, if revision is 0, or as it was
	// then. It returns ErrCompacted if the store has forgotten that revision, and
	// an error that wraps [bowline.ErrUnknown] if it has not come to it. An empty
	// at, and a revision below 0, is invalid.
	List(ctx context.Context, at string, revision int64) (View, error)

	// Stream begins to say what changed at, or below, at after a revision.
	Stream(ctx context.Context, at string, after Head) (Stream, error)
}

// A Stream says what happened, in order and whole revisions at a time. One that
// has returned an error is closed and asked nothing more.
type Stream interface {
	// Next waits for a batch. It returns ErrCompacted or [ErrRelist] when the
	// stream cannot go on from where it is.
	Next(ctx context.Context) (Batch, error)
	Close()
}

// A Batch is what one or more revisions changed, or nothing: then it says that
// there was nothing up to its head.
type Batch struct {
	Head  Head
	Steps []Step
}

// A Step is one key's change: to an entry, or away if it is the zero Entry.
type Step struct {
	Key   string
	Entry Entry
}

// A Head is how far a store has come. Revision counts its changes, Term its
// elections; Cluster is which store it is, and changes when a backup is restored
// as a new cluster.
type Head struct {
	Cluster, Term uint64
	Revision      int64
}

// Follows reports whether h can be a later state, or the same, of the store that
// was once at old. It cannot tell once a restored store has had more changes and
// elections than the lost one, which is why streams ask to list again from time
// to time.
func (h Head) Follows(old Head) bool {
	return old == Head{} || h.Cluster == old.Cluster && h.Term >= old.Term && h.Revision >= old.Revision
}

// An Entry is a value and the revision that wrote it. The zero Entry stands for
// a key that is not there.
type Entry struct {
	Value    string
	Modified int64
}

// Exists reports whether the key is there.
func (e Entry) Exists() bool { return e.Modified != 0 }

// A View is what a range held at one revision. Its map is the caller's own.
type View struct {
	Head    Head
	Entries map[string]Entry
}

// A Lease keeps entries for as long as its holder is alive and connected.
type Lease interface {
	// ID is what [PutLeased] names it by.
	ID() int64
	// Lost is closed when the store says that the lease has ended, or when its
	// time has passed since the last renewal that is certain was begun: so never
	// later than the store ends it, if clocks run alike. It is closed too when
	// nobody renews the lease any more, for its Store was closed.
	Lost() <-chan struct{}
	// Revoke ends it, with all that was put under it. Revoking a lost lease
	// succeeds.
	Revoke(ctx context.Context) error
}

// ValidList returns nil, or an error that wraps [bowline.ErrInvalid] and says
// what of a list no store takes. Implementations call it first.
func ValidList(at string, revision int64) error {
	if at == "" || revision < 0 {
		return fmt.Errorf("%w: list %q at %d: want a key, or a prefix that ends in a slash, at a revision or 0", bowline.ErrInvalid, at, revision)
	}
	return nil
}

// Within reports whether key is in the range at: that very key, or below it if
// it ends in "/".
func Within(key, at string) bool {
	return key == at || strings.HasSuffix(at, "/") && strings.HasPrefix(key, at)
}
