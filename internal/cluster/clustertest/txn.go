package clustertest

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
)

func checks(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	a, b := at(t)+"a", at(t)+"b"
	first := commit(t, s, cluster.Put(a, "1"))
	one := list(t, s, a).Entries[a]
	if want := (cluster.Entry{Value: "1", Modified: first.Head.Revision}); one != want {
		t.Fatalf("put is %+v, want %+v", one, want)
	}
	for _, tt := range []struct {
		name  string
		check []cluster.Check
		holds bool
	}{
		{"absent, is there", []cluster.Check{cluster.Absent(a)}, false},
		{"absent, is not", []cluster.Check{cluster.Absent(b)}, true},
		{"unchanged", []cluster.Check{cluster.Unchanged(a, one)}, true},
		{"other revision", []cluster.Check{cluster.Unchanged(a, cluster.Entry{Value: "1", Modified: one.Modified - 1})}, false},
		{"other value", []cluster.Check{cluster.Unchanged(a, cluster.Entry{Value: "2", Modified: one.Modified})}, false},
		{"zero entry, is not", []cluster.Check{cluster.Unchanged(b, cluster.Entry{})}, true},
		{"one of two", []cluster.Check{cluster.Unchanged(a, one), cluster.Unchanged(b, one)}, false},
		{"no check", nil, true},
	} {
		r, err := s.Commit(patient(t), cluster.Txn{If: tt.check, Then: []cluster.Op{cluster.Put(at(t)+"c", tt.name), cluster.Delete(b)}})
		if err != nil || r.Committed != tt.holds {
			t.Errorf("%s: committed is %v, %v; want %v", tt.name, r.Committed, err, tt.holds)
		}
		if want := map[string]cluster.Entry{a: one}; !tt.holds && !maps.Equal(r.Found, want) {
			t.Errorf("%s: found %v, want %v", tt.name, r.Found, want)
		}
		if got := list(t, s, at(t)+"c").Entries[at(t)+"c"]; (got.Value == tt.name) != tt.holds || tt.holds && got.Modified != r.Head.Revision {
			t.Errorf("%s: c is %+v after the transaction of %+v", tt.name, got, r.Head)
		}
	}
	before := list(t, s, at(t)).Head
	if r := commit(t, s, cluster.Delete(at(t)+"nothing")); r.Head != before {
		t.Errorf("deleting nothing leads from %+v to %+v", before, r.Head)
	}
}

// oneWinner has many clients want the same, and count together.
func oneWinner(t *testing.T, c Cluster) {
	const clients, blocks, steps = 4, 30, 10
	var won [blocks]atomic.Int32
	var wg sync.WaitGroup
	for i := range clients {
		s, _ := c.Client(t)
		ctx := patient(t)
		wg.Go(func() {
			for b := range blocks {
				key := fmt.Sprintf("%sblk/%d", at(t), b)
				r, err := s.Commit(ctx, cluster.Txn{If: []cluster.Check{cluster.Absent(key)}, Then: []cluster.Op{cluster.Put(key, strconv.Itoa(i))}})
				if err != nil {
					t.Error(err)
				}
				if r.Committed {
					won[b].Add(1)
				} else if !r.Found[key].Exists() {
					t.Errorf("%s was there, and is not found", key)
				}
			}
			for range steps {
				count(t, ctx, s, at(t)+"count")
			}
		})
	}
	wg.Wait()
	for b := range won {
		if n := won[b].Load(); n != 1 {
			t.Errorf("block %d has %d winners", b, n)
		}
	}
	s, _ := c.Client(t)
	if got := list(t, s, at(t)+"count").Entries[at(t)+"count"].Value; got != strconv.Itoa(clients*steps) {
		t.Errorf("%d clients counted to %d each, together to %s", clients, steps, got)
	}
}

// count adds one.
func count(t *testing.T, ctx context.Context, s cluster.Store, key string) {
	e := cluster.Entry{}
	for {
		n, _ := strconv.Atoi(e.Value)
		r, err := s.Commit(ctx, cluster.Txn{If: []cluster.Check{cluster.Unchanged(key, e)}, Then: []cluster.Op{cluster.Put(key, strconv.Itoa(n+1))}})
		if err != nil {
			t.Error(err)
			return
		}
		if r.Committed {
			return
		}
		e = r.Found[key]
	}
}

// bounds goes to what Txn.Valid allows, and one further.
func bounds(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	watch := follow(t, s, at(t))
	value := strings.Repeat("v", cluster.MaxValue)
	key := at(t) + "k"
	var many []cluster.Op
	var absent []cluster.Check
	for i := range cluster.MaxParts {
		many = append(many, cluster.Put(fmt.Sprintf("%smany/%d", at(t), i), "x"))
		absent = append(absent, cluster.Absent(many[i].Key))
	}
	whole := cluster.MaxTxn/cluster.MaxValue - 1
	for _, tt := range []struct {
		name string
		txn  cluster.Txn
		ok   bool
	}{
		{"value", cluster.Txn{Then: []cluster.Op{cluster.Put(key, value)}}, true},
		{"value too long", cluster.Txn{Then: []cluster.Op{cluster.Put(key, value+"v")}}, false},
		{"parts", cluster.Txn{If: absent, Then: many}, true},
		{"too many operations", cluster.Txn{Then: append(many, cluster.Delete(key))}, false},
		{"too many checks", cluster.Txn{If: append(absent, cluster.Absent(key))}, false},
		{"large", cluster.Txn{Then: big(at(t), value, whole)}, true},
		{"too large", cluster.Txn{Then: big(at(t), value, whole+1)}, false},
		{"key twice", cluster.Txn{Then: []cluster.Op{cluster.Put(key, "1"), cluster.Delete(key)}}, false},
		{"long key", cluster.Txn{Then: []cluster.Op{cluster.Put(at(t)+strings.Repeat("k", cluster.MaxKey-len(at(t))), "")}}, true},
		{"key too long", cluster.Txn{Then: []cluster.Op{cluster.Delete(strings.Repeat("k", cluster.MaxKey+1))}}, false},
		{"empty key", cluster.Txn{If: []cluster.Check{cluster.Absent("")}}, false},
		{"key of a range", cluster.Txn{Then: []cluster.Op{cluster.Put(at(t), "")}}, false},
	} {
		r, err := s.Commit(patient(t), tt.txn)
		if !tt.ok {
			wantErr(t, tt.name, err, bowline.ErrInvalid)
		} else if err != nil || !r.Committed {
			t.Errorf("%s: %v, %v", tt.name, r.Committed, err)
		}
	}
	watch.until(list(t, s, at(t)).Entries)
	if watch.entries[key].Value != value {
		t.Errorf("the watch says %d bytes of %d", len(watch.entries[key].Value), len(value))
	}
}

// big returns n puts of value.
func big(at, value string, n int) []cluster.Op {
	var ops []cluster.Op
	for i := range n {
		ops = append(ops, cluster.Put(fmt.Sprintf("%sbig/%d", at, i), value))
	}
	return ops
}
