package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
)

// A Client is one node's way to the store.
type Client struct {
	of    *Cluster
	clock Clock

	// Under the cluster's lock.
	cut    bool
	lost   int // answers still to be lost
	closed bool
	leases []*lease
}

var _ cluster.Store = (*Client)(nil)

// ErrNothing is what Next of a watch returns in place of waiting, see [NoWait].
var ErrNothing = errors.New("nothing there yet")

type noWait struct{}

// NoWait returns a context with which Next of a watch does not wait.
func NoWait(ctx context.Context) context.Context { return context.WithValue(ctx, noWait{}, true) }

// Cut takes the client's connection away, or gives it back. Without it the
// client's calls fail, its watches are silent and its leases are not renewed.
func (c *Client) Cut(cut bool) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.cut = cut
	c.of.wake()
}

// LoseAnswers has the next n transactions of the client be done without it
// hearing of it.
func (c *Client) LoseAnswers(n int) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.lost = n
}

// reach returns why the client does not reach the store, or nil. The caller
// holds the cluster's lock.
func (c *Client) reach(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.closed:
		return fmt.Errorf("%w: the client is closed", bowline.ErrUnavailable)
	case c.cut:
		return fmt.Errorf("%w: no connection to the store", bowline.ErrUnavailable)
	}
	return nil
}

// Commit does what [cluster.Store] says.
func (c *Client) Commit(ctx context.Context, t cluster.Txn) (cluster.Result, error) {
	if err := t.Valid(); err != nil {
		return cluster.Result{}, err
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if err := c.reach(ctx); err != nil {
		return cluster.Result{}, err
	}
	result, err := c.of.commit(t)
	if c.lost > 0 {
		c.lost--
		return cluster.Result{}, fmt.Errorf("%w: the answer was lost", bowline.ErrUnavailable)
	}
	return result, err
}

// List does what [cluster.Source] says.
func (c *Client) List(ctx context.Context, at string, revision int64) (cluster.View, error) {
	if err := cluster.ValidList(at, revision); err != nil {
		return cluster.View{}, err
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if err := c.reach(ctx); err != nil {
		return cluster.View{}, err
	}
	view, err := c.of.list(at, revision)
	if err != nil {
		return cluster.View{}, fmt.Errorf("list %s: %w", at, err)
	}
	return view, nil
}

// Watch does what [cluster.Store] says.
func (c *Client) Watch(at string, known cluster.View) *cluster.Watch {
	return cluster.Follow(c, at, known)
}

// Close does what [cluster.Store] says.
func (c *Client) Close() error {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.closed = true
	for _, l := range slices.Clone(c.leases) {
		l.lose()
	}
	c.of.wake()
	return nil
}

// Grant does what [cluster.Store] says.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (cluster.Lease, error) {
	if ttl < time.Second || ttl%time.Second != 0 {
		return nil, fmt.Errorf("%w: lease of %s: want whole seconds", bowline.ErrInvalid, ttl)
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if err := c.reach(ctx); err != nil {
		return nil, err
	}
	c.of.lastLease++
	id := c.of.lastLease
	c.of.leases[id] = c.of.hold(id, ttl)
	l := &lease{client: c, id: id, ttl: ttl, lost: make(chan struct{})}
	c.leases = append(c.leases, l)
	l.confirmed()
	return l, nil
}
