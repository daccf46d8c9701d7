package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A lease is renewed by a goroutine of its own. The client that etcd ships
// counts a lease's time from when an answer came; here it counts from when the
// question was sent, so that nobody believes in a lease that has ended.
type lease struct {
	store *Store
	id    clientv3.LeaseID
	ttl   time.Duration
	once  sync.Once
	lost  chan struct{}
}

// Grant does what [cluster.Store] says.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (cluster.Lease, error) {
	if ttl < time.Second || ttl%time.Second != 0 {
		return nil, fmt.Errorf("%w: lease of %s: want whole seconds", bowline.ErrInvalid, ttl)
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	asked := time.Now()
	r, err := s.client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return nil, s.explain(ctx, "grant a lease", err)
	}
	l := &lease{store: s, id: r.ID, ttl: time.Duration(r.TTL) * time.Second, lost: make(chan struct{})}
	if !s.spawn(func() { l.keep(asked.Add(l.ttl)) }) {
		l.lose()
	}
	return l, nil
}

func (l *lease) ID() int64             { return int64(l.id) }
func (l *lease) Lost() <-chan struct{} { return l.lost }
func (l *lease) lose()                 { l.once.Do(func() { close(l.lost) }) }

// Revoke does what [cluster.Lease] says.
func (l *lease) Revoke(ctx context.Context) error {
	if err := l.store.usable(ctx); err != nil {
		return err
	}
	_, err := l.store.client.Revoke(ctx, l.id)
	if err != nil && !errors.Is(cause(err), cluster.ErrLeaseLost) {
		return l.store.explain(ctx, "revoke a lease", err)
	}
	l.lose()
	return nil
}

// keep renews the lease, which is certain until a time, until it is lost.
func (l *lease) keep(until time.Time) {
	defer l.lose()
	line := line{store: l.store, id: l.id}
	defer line.hangUp()
	wait := time.NewTimer(l.ttl / 3)
	defer wait.Stop()
	for {
		select {
		case <-l.lost:
			return
		case <-l.store.ctx.Done():
			return
		case <-wait.C:
		}
		asked := time.Now()
		if !asked.Before(until) {
			return
		}
		switch ttl, err := line.renew(min(l.ttl/3, until.Sub(asked))); {
		case err == nil:
			until = asked.Add(ttl)
			wait.Reset(ttl / 3)
		case errors.Is(err, cluster.ErrLeaseLost):
			return
		default: // until it is over
			wait.Reset(min(l.ttl/10, time.Until(until)))
		}
	}
}

// A line is a stream of renewals. It stays open, for with a password each new
// one is a login, which is much work for the server.
type line struct {
	store  *Store
	id     clientv3.LeaseID
	stream pb.Lease_LeaseKeepAliveClient // nil: none is open
	cancel context.CancelFunc
}

// renew asks once, and returns how long the lease lasts from then. It fails
// after patience, so that the next try can find another member.
func (l *line) renew(patience time.Duration) (time.Duration, error) {
	ttl, err := l.ask(patience)
	if err != nil {
		l.hangUp()
		return 0, cause(err)
	}
	if ttl <= 0 {
		return 0, cluster.ErrLeaseLost
	}
	return time.Duration(ttl) * time.Second, nil
}

func (l *line) ask(patience time.Duration) (ttl int64, err error) {
	var ctx context.Context
	if l.cancel == nil {
		ctx, l.cancel = context.WithCancel(l.store.ctx)
	}
	late := time.AfterFunc(patience, l.cancel)
	defer late.Stop()
	if l.stream == nil {
		if l.stream, err = pb.NewLeaseClient(l.store.client.ActiveConnection()).LeaseKeepAlive(ctx); err != nil {
			return 0, err
		}
	}
	if err := l.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(l.id)}); err != nil {
		return 0, err
	}
	answer, err := l.stream.Recv()
	return answer.GetTTL(), err
}

// hangUp ends the stream, if there is one.
func (l *line) hangUp() {
	if l.cancel != nil {
		l.cancel()
	}
	l.stream, l.cancel = nil, nil
}
