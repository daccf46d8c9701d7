package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/bowline-net/bowline/internal/cluster"
)

// A held lease is what the store knows of one.
type held struct {
	ttl  time.Duration
	stop func() // the timer that ends it
}

// hold begins a lease in the store. The caller holds c.mu.
func (c *Cluster) hold(id int64, ttl time.Duration) *held {
	l := &held{ttl: ttl}
	l.stop = c.clock.AfterFunc(ttl, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		// The wall's timer may have begun when the lease was renewed.
		if c.leases[id] == l {
			c.end(id)
		}
	})
	return l
}

// renew lets a lease begin anew, and reports whether it was there. The caller
// holds c.mu.
func (c *Cluster) renew(id int64) bool {
	l := c.leases[id]
	if l == nil {
		return false
	}
	l.stop()
	c.leases[id] = c.hold(id, l.ttl)
	return true
}

// end ends a lease and what is under it, in one revision. The caller holds c.mu.
func (c *Cluster) end(id int64) {
	l := c.leases[id]
	if l == nil {
		return
	}
	l.stop()
	delete(c.leases, id)
	var ops []cluster.Op
	for _, key := range slices.Sorted(maps.Keys(c.entries)) {
		if c.entries[key].lease == id {
			ops = append(ops, cluster.Delete(key))
		}
	}
	c.change(ops)
}

// A lease is what its holder knows of it. Its fields are under the cluster's
// lock.
type lease struct {
	client *Client
	id     int64
	ttl    time.Duration
	until  time.Time // by the client's clock: certain so far
	stop   func()    // the next try to renew
	lost   chan struct{}
	over   bool
}

func (l *lease) ID() int64             { return l.id }
func (l *lease) Lost() <-chan struct{} { return l.lost }

func (l *lease) Revoke(ctx context.Context) error {
	c := l.client.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := l.client.reach(ctx); err != nil {
		return err
	}
	c.end(l.id)
	l.lose()
	return nil
}

// confirmed begins the lease's time anew. The caller holds the lock.
func (l *lease) confirmed() {
	l.until = l.client.clock.Now().Add(l.ttl)
	l.next()
}

// next sets the next try: after a third of the lease, or when it ends if that
// is sooner. The caller holds the lock.
func (l *lease) next() {
	l.stop = l.client.clock.AfterFunc(min(l.ttl/3, l.until.Sub(l.client.clock.Now())), l.try)
}

func (l *lease) try() {
	c := l.client.of
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case l.over:
	case !l.client.clock.Now().Before(l.until):
		l.lose()
	case l.client.cut:
		l.next()
	case c.renew(l.id):
		l.confirmed()
	default:
		l.lose()
	}
}

// lose tells the holder, and stops renewing. The caller holds the lock.
func (l *lease) lose() {
	if l.over {
		return
	}
	l.over = true
	l.stop()
	close(l.lost)
	l.client.leases = slices.DeleteFunc(l.client.leases, func(o *lease) bool { return o == l })
}
