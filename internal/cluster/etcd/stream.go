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
	s.count(1)
	return st, nil
}

func (st *stream) Close() {
	st.audit.Stop()
	st.cancel()
	st.store.count(-1)
}

func (s *Store) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams += n
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
			return st.batch(r), nil
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

// probeStreams asks how far the store is while there are streams. All answers
// come in the streams themselves, after the events that were before.
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
		open := s.streams
		s.mu.Unlock()
		if open == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(s.ctx), s.probe)
		_ = s.client.RequestProgress(ctx) // whoever reads the stream learns what is wrong with it
		cancel()
	}
}
