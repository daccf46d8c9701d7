// Package netnstest gives each test an empty kernel of its own: a network
// namespace that dies with the test, and a context that dies at a chosen step.
package netnstest

import (
	"context"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

// RequireRoot skips the test unless it runs as root. With BOWLINE_NO_SKIP=1,
// which CI sets, it fails instead.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root")
	}
}

// Skip skips the test for a reason that this machine cannot mend. With
// BOWLINE_NO_SKIP=1 a skip is a failure.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("BOWLINE_NO_SKIP") == "1" {
		t.Fatalf("would be skipped: %s", reason)
	}
	t.Skip(reason)
}

// New makes a namespace for the test.
func New(t testing.TB) *netns.Handle {
	t.Helper()
	RequireRoot(t)
	h, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// Command runs a command of the system inside ns and returns what it prints:
// the judge of what the code under test did.
func Command(t testing.TB, ns *netns.Handle, args ...string) string {
	t.Helper()
	var out []byte
	if err := netns.Do(ns, func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// FailAfter returns a context whose Err is nil n times and context.Canceled
// from then on. Every verb of link, nft and state asks Err once, so a suite
// that counts n up until the call succeeds breaks it at each of its steps,
// with no hook in the code.
func FailAfter(ctx context.Context, n int) context.Context {
	c := &failing{Context: ctx, done: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

type failing struct {
	context.Context
	left atomic.Int64
	done chan struct{}
}

func (c *failing) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// Done never closes: only verbs that ask Err die, at a step that can be counted.
func (c *failing) Done() <-chan struct{} { return c.done }
