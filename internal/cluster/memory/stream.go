package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/bowline-net/bowline/internal/cluster"
)

// A stream is a place in the store's past. It holds nothing that must be closed.
type stream struct {
	client *Client
	at     string
	head   cluster.Head // what was said already
}

// Stream does what [cluster.Source] says.
func (c *Client) Stream(_ context.Context, at string, after cluster.Head) (cluster.Stream, error) {
	return &stream{c, at, after}, nil
}

func (s *stream) Close() {}

// Next returns a batch of all that is there.
func (s *stream) Next(ctx context.Context) (cluster.Batch, error) {
	for {
		b, more, err := s.look(ctx)
		switch {
		case err != nil:
			return cluster.Batch{}, err
		case b.Head != s.head:
			s.head = b.Head
			return b, nil
		case ctx.Value(noWait{}) != nil:
			return cluster.Batch{}, ErrNothing
		}
		select {
		case <-more:
		case <-ctx.Done():
			return cluster.Batch{}, ctx.Err()
		}
	}
}

// look returns what is there, or the head that is known already if the client
// is not connected; and what is closed when there may be more.
func (s *stream) look(ctx context.Context) (cluster.Batch, <-chan struct{}, error) {
	c := s.client.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.client.cut && !s.client.closed {
		return cluster.Batch{Head: s.head}, c.changed, ctx.Err()
	}
	if err := s.client.reach(ctx); err != nil {
		return cluster.Batch{}, nil, err
	}
	if s.head.Revision+1 < c.compacted {
		return cluster.Batch{}, nil, cluster.ErrCompacted
	}
	b := cluster.Batch{Head: c.head}
	first, _ := slices.BinarySearchFunc(c.past, s.head.Revision+1, func(r revision, n int64) int { return cmp.Compare(r.number, n) })
	for _, r := range c.past[first:] {
		for _, step := range r.steps {
			if cluster.Within(step.Key, s.at) {
				b.Steps = append(b.Steps, step.Step)
			}
		}
	}
	return b, c.changed, nil
}
