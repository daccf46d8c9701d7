package memory

import (
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/cluster"
	"github.com/bowline-net/bowline/internal/cluster/clustertest"
)

// suite returns a store for the suite, whose leases run by clock.
func suite(clock Clock) clustertest.Cluster {
	c := New(clock)
	return clustertest.Cluster{
		Client: func(t *testing.T) (cluster.Store, func(bool)) {
			s := c.Client(clock)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s, s.Cut
		},
		Compact: func(t *testing.T, before int64) {
			if err := c.Compact(before); err != nil {
				t.Error(err)
			}
		},
		Backup: func(t *testing.T) func(*testing.T) {
			b := c.Backup()
			return func(*testing.T) { c.Restore(b) }
		},
	}
}

func TestVirtual(t *testing.T) {
	t.Parallel()
	clock := new(Virtual)
	s := suite(clock)
	s.Pass = clock.Advance
	clustertest.Run(t, s)
	if took := clock.Now().Sub(time.Time{}); took != 12*time.Second {
		t.Errorf("%s passed, want the 12s of the lost lease: nothing else waits", took)
	}
}

func TestWall(t *testing.T) {
	t.Parallel()
	clustertest.Run(t, suite(Wall{}))
}
