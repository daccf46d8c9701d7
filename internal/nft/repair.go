package nft

import (
	"context"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// RepairNetwork makes right what DiffNetwork finds, and returns that. It leaves
// alone what is right, and does all in one transaction: no packet sees anything
// half done.
func (s *Snapshot) RepairNetwork(ctx context.Context, n Network) ([]bowline.Difference, error) {
	what := fmt.Sprintf("repair firewall of network %q", n.ID)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	c, err := s.compare(n.wants())
	if err != nil || len(c.found) == 0 {
		return c.found, failure(what, err)
	}
	return c.found, failure(what, s.apply(c, func(conn *nftables.Conn) error {
		n.setUp(conn)
		return nil
	}))
}

// RepairEndpoint is RepairNetwork for what DiffEndpoint finds.
func (s *Snapshot) RepairEndpoint(ctx context.Context, n Network, e Endpoint) ([]bowline.Difference, error) {
	what := fmt.Sprintf("repair firewall of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	w, err := e.wants(s.h.site(), n, map[string]bool{}) // all of it: DiffEndpoint may have told of what others need too
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	c, err := s.compare(w)
	if err != nil || len(c.found) == 0 {
		return c.found, failure(what, err)
	}
	return c.found, failure(what, s.apply(c, func(conn *nftables.Conn) error {
		n.setUp(conn) // e's elements may be in sets of n's tables
		e.setUp(conn)
		e.setUpPorts(conn, n)
		return e.setUpPolicy(conn, s.h.site())
	}))
}

// apply does what the comparison says. The snapshot learns of what was added.
func (s *Snapshot) apply(c comparison, setUp func(*nftables.Conn) error) error {
	unlock, err := s.h.lock(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.h.with(func(conn *nftables.Conn) error {
		if c.setUp {
			if err := unowned(conn, c.families...); err != nil {
				return err
			}
			if err := setUp(conn); err != nil {
				return err
			}
		}
		for _, e := range c.wrong {
			if err := conn.SetDeleteElements(e.set, []nftables.SetElement{e.SetElement}); err != nil {
				return err
			}
		}
		return flush(conn, c.missing, (*nftables.Conn).SetAddElements)
	})
	if err != nil || c.setUp || len(c.wrong) > 0 {
		s.forget()
		return err
	}
	for _, e := range c.missing {
		have, err := s.elementsOf(e.set)
		if err != nil {
			return err
		}
		have[string(e.Key)] = held{e.KeyEnd, e.Val, e.Comment}
	}
	return nil
}
