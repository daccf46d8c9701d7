package clustertest

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
)

func listAtRevision(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	var views []cluster.View
	for i, ops := range [][]cluster.Op{
		{cluster.Put(at(t)+"a", "1"), cluster.Put(at(t)+"b", "1")},
		{cluster.Put(at(t)+"a", "2")},
		{cluster.Delete(at(t) + "b"), cluster.Put(at(t)+"a/below", "")},
		{cluster.Delete(at(t) + "a"), cluster.Put(at(t)+"b", "3")},
	} {
		commit(t, s, ops...)
		commit(t, s, cluster.Put("/elsewhere", fmt.Sprint(i)))
		views = append(views, list(t, s, at(t)))
	}
	for i, want := range []int{2, 2, 2, 2} {
		if len(views[i].Entries) != want {
			t.Errorf("view %d is %v, want %d entries", i, views[i].Entries, want)
		}
		got, err := s.List(patient(t), at(t), views[i].Head.Revision)
		if err != nil || !maps.Equal(got.Entries, views[i].Entries) || got.Head.Revision != views[i].Head.Revision {
			t.Errorf("list at %d is %v, %v; was %v", views[i].Head.Revision, got, err, views[i])
		}
	}
	if one, err := s.List(patient(t), at(t)+"a", views[2].Head.Revision); err != nil || len(one.Entries) != 1 || one.Entries[at(t)+"a"].Value != "2" {
		t.Errorf("list of one key is %v, %v", one.Entries, err)
	}
	last := views[3].Head.Revision
	_, err := s.List(patient(t), at(t), last+1000)
	wantErr(t, "list at a revision to come", err, bowline.ErrUnknown)
	_, err = s.List(patient(t), "", 0)
	wantErr(t, "list of nothing", err, bowline.ErrInvalid)
	_, err = s.List(patient(t), at(t), -1)
	wantErr(t, "list at no revision", err, bowline.ErrInvalid)
	c.Compact(t, last)
	if got, err := s.List(patient(t), at(t), last); err != nil || !maps.Equal(got.Entries, views[3].Entries) {
		t.Errorf("list at the revision of the compaction is %v, %v", got, err)
	}
	_, err = s.List(patient(t), at(t), last-1)
	wantErr(t, "list at a compacted revision", err, cluster.ErrCompacted)
}

// watchOrder has several clients write, two keys at a time, and checks that
// nothing is missed, and that all a watch ever shows is what the store held.
func watchOrder(t *testing.T, c Cluster) {
	const writers, steps = 3, 40
	s, _ := c.Client(t)
	watch := follow(t, s, at(t)+"w/")
	var wg sync.WaitGroup
	for i := range writers {
		s, _ := c.Client(t)
		ctx := patient(t)
		wg.Go(func() {
			for n := range steps {
				pair := []cluster.Op{cluster.Put(fmt.Sprintf("%sw/%d", at(t), n%5), fmt.Sprint(i, n)), cluster.Put(fmt.Sprintf("%sw/%d/%d", at(t), i, n), "")}
				if n%4 == 3 {
					pair[0] = cluster.Put(at(t)+"unwatched", "")
				}
				if _, err := s.Commit(ctx, cluster.Txn{Then: pair}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	// Each step puts one key that nobody else does, and three of four another.
	want, got := writers*steps+writers*(steps-steps/4), 0
	for got < want {
		change := watch.next()
		got += len(change.Events)
		for i, e := range change.Events {
			if i > 0 && e.New.Modified < change.Events[i-1].New.Modified {
				t.Errorf("events of %d and %d in this order", change.Events[i-1].New.Modified, e.New.Modified)
			}
		}
		view, err := s.List(patient(t), at(t)+"w/", change.Head.Revision)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(watch.entries, view.Entries) {
			t.Fatalf("at %d the watch shows\n%v, the store held\n%v", change.Head.Revision, watch.entries, view.Entries)
		}
	}
	wg.Wait()
	watch.silent(s, at(t)+"w/last")
}

// watchKnown begins with what another watch, or the last life of a node, knew.
func watchKnown(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	commit(t, s, cluster.Put(at(t)+"a", "1"), cluster.Put(at(t)+"b", "1"), cluster.Put(at(t)+"c", "1"))
	known := list(t, s, at(t))
	commit(t, s, cluster.Put(at(t)+"a", "2"), cluster.Delete(at(t)+"b"))
	now := list(t, s, at(t))
	for name, view := range map[string]cluster.View{
		"with its head":     known,
		"without its head":  {Entries: known.Entries},
		"nothing":           {},
		"of another store":  {Head: cluster.Head{Cluster: 7, Term: 1, Revision: 1}, Entries: known.Entries},
		"of a later store":  {Head: cluster.Head{Cluster: now.Head.Cluster, Term: now.Head.Term, Revision: now.Head.Revision + 1000}, Entries: known.Entries},
		"of a later leader": {Head: cluster.Head{Cluster: now.Head.Cluster, Term: now.Head.Term + 1000, Revision: known.Head.Revision}, Entries: known.Entries},
	} {
		r := &replica{t: t, watch: s.Watch(at(t), view), entries: maps.Clone(view.Entries)}
		if r.entries == nil {
			r.entries = map[string]cluster.Entry{}
		}
		before := maps.Clone(view.Entries)
		changes := r.until(now.Entries)
		r.watch.Close()
		if len(changes) != 1 {
			t.Fatalf("view %s: %d changes, want 1", name, len(changes))
		}
		got := changes[0]
		if want := name != "with its head"; got.Relisted != want {
			t.Errorf("view %s: relisted is %v, want %v", name, got.Relisted, want)
		}
		if want := view.Head != (cluster.Head{}) && name != "with its head"; got.Rewound != want {
			t.Errorf("view %s: rewound is %v, want %v", name, got.Rewound, want)
		}
		if !maps.Equal(before, view.Entries) {
			t.Errorf("view %s: the caller's map was changed", name)
		}
	}
}

// watchCut takes the connection away and gives it back: nothing is missed, and
// nothing has to be listed again.
func watchCut(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	far, cut := c.Client(t)
	watch := follow(t, far, at(t))
	watch.silent(s, at(t)+"a")
	cut(true)
	for i := range 3 {
		commit(t, s, cluster.Put(at(t)+"a", fmt.Sprint(i)), cluster.Put(at(t)+"b", fmt.Sprint(i)))
	}
	commit(t, s, cluster.Delete(at(t)+"b"))
	cut(false)
	events := 0
	for events < 7 {
		change := watch.next()
		events += len(change.Events)
		if change.Relisted {
			t.Errorf("%+v was listed again", change)
		}
	}
	watch.silent(s, at(t)+"c")
}

// watchCompacted has the store forget what happened while a watch was away.
func watchCompacted(t *testing.T, c Cluster) {
	s, _ := c.Client(t)
	far, cut := c.Client(t)
	commit(t, s, cluster.Put(at(t)+"stays", "1"), cluster.Put(at(t)+"goes", "1"), cluster.Put(at(t)+"changes", "1"))
	watch := follow(t, far, at(t))
	watch.silent(s, at(t)+"a")
	cut(true)
	commit(t, s, cluster.Put(at(t)+"comes and goes", "1"))
	commit(t, s, cluster.Delete(at(t)+"goes"), cluster.Put(at(t)+"changes", "2"), cluster.Put(at(t)+"comes", "2"))
	r := commit(t, s, cluster.Delete(at(t)+"comes and goes"))
	c.Compact(t, r.Head.Revision)
	cut(false)
	change := watch.next()
	if !change.Relisted || change.Rewound {
		t.Errorf("%+v was not listed again, or taken for another store's", change)
	}
	var keys string
	for _, e := range change.Events {
		keys += e.Key[len(at(t)):] + " "
	}
	if want := "changes comes goes "; keys != want {
		t.Errorf("what changed is %q, want %q", keys, want)
	}
	if want := list(t, s, at(t)).Entries; !maps.Equal(watch.entries, want) {
		t.Errorf("the watch shows %v, want %v", watch.entries, want)
	}
	watch.silent(s, at(t)+"b")
}
