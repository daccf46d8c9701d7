package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A stream is a watch of etcd.
type stream struct {
	store   *Store
	at      string
	after   int64 // the revision up to which all was said
	cancel  context.CancelFunc
	opened  chan clientv3.WatchChan // gives what follows, once it is there
	answers clientv3.WatchChan
	audit   *time.Timer
	rewound <-chan struct{} // closed when a probe says so
}

// Stream does what [cluster.Source] says. It does not wait for the connection.
func (s *Store) Stream(ctx context.Context, at string, after cluster.Head) (cluster.Stream, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	// Without a leader a member would be silent, as if nothing happened.
	own, cancel := context.WithCancel(clientv3.WithRequireLeader(s.ctx))
	st := &stream{store: s, at: at, after: after.Revision, cancel: cancel, opened: make(chan clientv3.WatchChan, 1)}
	options := append(span(at), clientv3.WithRev(after.Revision+1), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	s.spawn(func() { st.opened <- s.client.Watch(own, at, options...) })
	// Spread, so that nodes which began together do not list together for ever.
	st.audit = time.NewTimer(s.audit*3/4 + time.Duration(rand.Int64N(int64(s.audit/2)+1)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams++
	st.rewound = s.rewound
	return st, nil
}

func (st *stream) Close() {
	st.audit.Stop()
	st.cancel()
	st.store.mu.Lock()
	defer st.store.mu.Unlock()
	st.store.streams--
}

// Next does what [cluster.Stream] says.
func (st *stream) Next(ctx context.Context) (cluster.Batch, error) {
	for {
		select {
		case st.answers = <-st.opened:
		case r, ok := <-st.answers: // never, until it is opened
			switch {
			case !ok:
				return cluster.Batch{}, st.store.explain(ctx, "watch", fmt.Errorf("%w: the stream ended", bowline.ErrUnavailable))
			case r.Err() != nil:
				return cluster.Batch{}, st.store.explain(ctx, "watch", r.Err())
			}
			b := st.batch(r)
			st.store.saw(b.Head)
			return b, nil
		case <-st.rewound:
			return cluster.Batch{}, cluster.ErrRelist
		case <-st.audit.C:
			return cluster.Batch{}, cluster.ErrRelist
		case <-ctx.Done():
			return cluster.Batch{}, ctx.Err()
		case <-st.store.ctx.Done():
			return cluster.Batch{}, st.store.explain(ctx, "watch", st.store.ctx.Err())
		}
	}
}

// batch reads one answer. Whatever it is, its head tells whether this is still
// the store that it was.
func (st *stream) batch(r clientv3.WatchResponse) cluster.Batch {
	b := cluster.Batch{Head: head(r.Header)}
	switch {
	case len(r.Events) > 0:
		// The head may be ahead of these events, with more to come.
		b.Head.Revision = r.Events[len(r.Events)-1].Kv.ModRevision
	case r.Created:
		// So it is here, unless it is behind what was said.
		b.Head.Revision = min(b.Head.Revision, st.after)
	}
	for _, e := range r.Events {
		step := cluster.Step{Key: string(e.Kv.Key)}
		if e.Type == clientv3.EventTypePut {
			step.Entry = entry(e.Kv)
		}
		b.Steps = append(b.Steps, step)
	}
	st.after = b.Head.Revision
	return b
}

// saw remembers how far a stream has come.
func (s *Store) saw(h cluster.Head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Follows(s.seen) {
		s.seen = h
	}
}

// probeStreams asks how far the store is while there are streams, and has all of
// them list again if it is not as far as they were before. The streams' own
// progress does not tell: etcd says nothing to a watch that is ahead of it.
func (s *Store) probeStreams() {
	tick := time.NewTicker(s.probe)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		open, seen := s.streams, s.seen
		s.mu.Unlock()
		if open == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.probe)
		r, err := s.client.Get(ctx, cluster.Root+string(cluster.KindCluster), clientv3.WithCountOnly())
		cancel()
		if err != nil || head(r.Header).Follows(seen) {
			continue // whoever reads a stream learns what is wrong with the connection
		}
		s.mu.Lock()
		s.seen = head(r.Header)
		close(s.rewound)
		s.rewound = make(chan struct{})
		s.mu.Unlock()
	}
}
