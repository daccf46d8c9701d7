package cluster

import (
	"fmt"
	"strings"

	"github.com/bowline-net/bowline"
)

// What a transaction may hold, so that each store takes what another does. A
// stock etcd takes 128 comparisons or operations and 1.5 MiB; a check is two
// comparisons.
const (
	MaxParts = 64        // checks, and as many operations
	MaxKey   = 1 << 10   // bytes
	MaxValue = 256 << 10 // bytes
	MaxTxn   = 1 << 20   // bytes of all its keys and values
)

// A Txn is a compare-and-swap: if all checks hold, all operations are done.
type Txn struct {
	If   []Check
	Then []Op
}

// A Check holds if the key has just that entry; see [Absent] and [Unchanged].
type Check struct {
	Key   string
	Entry Entry
}

// Absent holds if the key is not there.
func Absent(key string) Check { return Check{Key: key} }

// Unchanged holds if the key has that entry still. It compares the value too,
// for after a restore a revision may have written something else. The zero Entry
// is as [Absent].
func Unchanged(key string, e Entry) Check { return Check{key, e} }

// An Op is one change; see [Put], [PutLeased] and [Delete].
type Op struct {
	Key, Value string
	Lease      int64
	Delete     bool
}

// Put sets the key, which is under no lease then.
func Put(key, value string) Op { return Op{Key: key, Value: value} }

// PutLeased sets the key for as long as the lease lasts.
func PutLeased(key, value string, lease Lease) Op {
	return Op{Key: key, Value: value, Lease: lease.ID()}
}

// Delete removes the key. It may be absent.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// A Result is how a transaction ended, and at which revision. What it has put
// is modified at that revision.
type Result struct {
	Head      Head
	Committed bool
	Found     map[string]Entry // if not: the checked keys that are there
}

// Valid returns nil, or an error that wraps [bowline.ErrInvalid] and says what
// of t no store takes. Implementations call it first.
func (t Txn) Valid() error {
	if len(t.If) > MaxParts || len(t.Then) > MaxParts {
		return fmt.Errorf("%w: transaction of %d checks and %d operations: want at most %d each", bowline.ErrInvalid, len(t.If), len(t.Then), MaxParts)
	}
	size := 0
	for _, c := range t.If {
		if err := validPart(c.Key, c.Entry.Value); err != nil {
			return err
		}
		size += len(c.Key) + len(c.Entry.Value)
	}
	twice := map[string]bool{}
	for _, o := range t.Then {
		if err := validPart(o.Key, o.Value); err != nil {
			return err
		}
		if twice[o.Key] {
			return fmt.Errorf("%w: transaction changes the key %q twice: want once", bowline.ErrInvalid, o.Key)
		}
		twice[o.Key] = true
		size += len(o.Key) + len(o.Value)
	}
	if size > MaxTxn {
		return fmt.Errorf("%w: transaction of %d bytes: want at most %d", bowline.ErrInvalid, size, MaxTxn)
	}
	return nil
}

func validPart(key, value string) error {
	switch {
	case key == "" || strings.HasSuffix(key, "/") || len(key) > MaxKey:
		return fmt.Errorf("%w: key %.100q: want 1 to %d bytes that do not end in a slash", bowline.ErrInvalid, key, MaxKey)
	case len(value) > MaxValue:
		return fmt.Errorf("%w: key %q: value of %d bytes: want at most %d", bowline.ErrInvalid, key, len(value), MaxValue)
	}
	return nil
}
