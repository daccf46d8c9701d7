package memory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
)

func TestVirtualClock(t *testing.T) {
	t.Parallel()
	var clock Virtual
	var got []string
	say := func(what string) func() {
		return func() { got = append(got, fmt.Sprint(what, clock.Now().Sub(time.Time{}))) }
	}
	clock.AfterFunc(3*time.Second, say("late "))
	clock.AfterFunc(time.Second, say("first "))
	clock.AfterFunc(time.Second, say("second "))
	stop := clock.AfterFunc(2*time.Second, say("stopped "))
	clock.AfterFunc(time.Second, func() { stop(); clock.AfterFunc(time.Second, say("set meanwhile ")) })
	clock.AfterFunc(-time.Second, say("overdue "))
	clock.Advance(2 * time.Second)
	want := []string{"overdue 0s", "first 1s", "second 1s", "set meanwhile 2s"}
	if !slices.Equal(got, want) || clock.Now().Sub(time.Time{}) != 2*time.Second {
		t.Errorf("at %s got %q, want %q", clock.Now(), got, want)
	}
	stop()
	clock.Advance(time.Second)
	if got[len(got)-1] != "late 3s" {
		t.Errorf("got %q, want the late one last", got)
	}
}

// TestDrift has a node whose clock is too slow for its leases: the store ends
// them while the node believes them, which is what bounds on drift are for.
func TestDrift(t *testing.T) {
	t.Parallel()
	var fast, slow Virtual
	c := New(&fast)
	s := c.Client(&slow)
	l, err := s.Grant(t.Context(), 9*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), cluster.Txn{Then: []cluster.Op{cluster.PutLeased("/a", "", l)}}); err != nil {
		t.Fatal(err)
	}
	there := func() bool {
		view, err := s.List(t.Context(), "/a", 0)
		return err == nil && len(view.Entries) == 1
	}
	for range 20 { // at half the speed renewals come in time: every six seconds
		fast.Advance(2 * time.Second)
		slow.Advance(time.Second)
	}
	if !there() {
		t.Fatal("a lease that was renewed in time has ended")
	}
	for range 5 { // at a quarter they do not
		fast.Advance(4 * time.Second)
		slow.Advance(time.Second)
	}
	select {
	case <-l.Lost():
		if there() {
			t.Error("the lease is lost, and its entry there")
		}
	default:
		t.Error("the node was not told when it tried to renew")
	}
}

func TestLoseAnswers(t *testing.T) {
	t.Parallel()
	c := New(new(Virtual))
	s := c.Client(new(Virtual))
	s.LoseAnswers(1)
	claim := cluster.Txn{If: []cluster.Check{cluster.Absent("/a")}, Then: []cluster.Op{cluster.Put("/a", "mine")}}
	if _, err := s.Commit(t.Context(), claim); !errors.Is(err, bowline.ErrUnavailable) {
		t.Errorf("error is %v, want %v", err, bowline.ErrUnavailable)
	}
	if r, err := s.Commit(t.Context(), claim); err != nil || r.Committed || r.Found["/a"].Value != "mine" {
		t.Errorf("trying again: %+v, %v; want what was done before", r, err)
	}
}

// TestModel runs random schedules of commits, cuts, compactions, restores and
// time against one store, and checks after each that every watch that can see
// the store shows what is there. The same seed does the same twice.
func TestModel(t *testing.T) {
	t.Parallel()
	const schedules, steps = 500, 60
	for seed := range uint64(schedules) {
		one := model(t, seed, steps)
		if two := model(t, seed, steps); one != two {
			t.Fatalf("seed %d: two runs end in\n%s\n%s", seed, one, two)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

type node struct {
	*Client
	watch *cluster.Watch
	known map[string]cluster.Entry
	lease cluster.Lease
}

func model(t *testing.T, seed uint64, steps int) string {
	t.Helper()
	ctx, random := NoWait(t.Context()), rand.New(rand.NewPCG(seed, 0))
	clock := new(Virtual)
	c := New(clock)
	nodes := make([]node, 3)
	for i := range nodes {
		s := c.Client(clock)
		nodes[i] = node{Client: s, watch: s.Watch("/", cluster.View{}), known: map[string]cluster.Entry{}}
		nodes[i].lease, _ = s.Grant(ctx, 3*time.Second)
	}
	backup := c.Backup()
	for range steps {
		n := &nodes[random.IntN(len(nodes))]
		key := fmt.Sprint("/", random.IntN(5))
		switch random.IntN(12) {
		case 0:
			n.Cut(!n.cut)
		case 1:
			_ = c.Compact(c.head.Revision - int64(random.IntN(5))) // or it was compacted
		case 2:
			clock.Advance(time.Duration(random.IntN(2000)) * time.Millisecond)
		case 3:
			if random.IntN(4) == 0 {
				c.Restore(backup)
			} else {
				backup = c.Backup()
			}
		case 4, 5:
			_, _ = n.Commit(ctx, cluster.Txn{Then: []cluster.Op{cluster.PutLeased(key, fmt.Sprint(random.Int()), n.lease)}}) // or it is lost
		case 6:
			_, _ = n.Commit(ctx, cluster.Txn{Then: []cluster.Op{cluster.Delete(key)}})
		case 7, 8:
			_, _ = n.Commit(ctx, cluster.Txn{Then: []cluster.Op{cluster.Put(key, fmt.Sprint(random.Int()))}})
		default:
			n.catchUp(t, c)
		}
	}
	for i := range nodes {
		nodes[i].Cut(false)
		nodes[i].catchUp(t, c)
	}
	return fmt.Sprint(c.head, c.compacted, c.entries)
}

// catchUp reads the node's watch to its end, where it shows what the store
// holds unless the node is cut off.
func (n *node) catchUp(t *testing.T, c *Cluster) {
	t.Helper()
	for {
		change, err := n.watch.Next(NoWait(t.Context()))
		if err != nil {
			if !errors.Is(err, ErrNothing) && !errors.Is(err, bowline.ErrUnavailable) {
				t.Error(err)
			}
			break
		}
		for _, e := range change.Events {
			if n.known[e.Key] != e.Old {
				t.Errorf("event %+v, known is %+v", e, n.known[e.Key])
			}
			if n.known[e.Key] = e.New; !e.New.Exists() {
				delete(n.known, e.Key)
			}
		}
	}
	if diff := cluster.Diff(n.known, entries(c)); !n.cut && len(diff) > 0 {
		t.Errorf("a watch that is connected lacks %+v", diff)
	}
}

func entries(c *Cluster) map[string]cluster.Entry {
	all := map[string]cluster.Entry{}
	for key, r := range c.entries {
		all[key] = r.Entry
	}
	return all
}
