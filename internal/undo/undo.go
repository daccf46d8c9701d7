// Package undo takes back half-finished work.
//
// Push a step right after the thing it would take back has been done, Commit
// when all is done, and defer Rollback at the top. The default is to roll
// back: an early return, a panic or a forgotten Commit leaves nothing behind.
package undo

import (
	"context"
	"log/slog"
)

// A Stack holds the steps that would take work back, newest last. The zero
// Stack is empty and ready. It is for one goroutine.
type Stack struct {
	steps []step
}

type step struct {
	what string
	do   func(context.Context) error
}

// Push adds a step. what says what the step does, for the log.
func (s *Stack) Push(what string, do func(context.Context) error) {
	s.steps = append(s.steps, step{what, do})
}

// Commit forgets all steps: the work stays.
func (s *Stack) Commit() { s.steps = nil }

// Rollback runs the steps, newest first, each even if others fail. Steps get a
// context that is not cancelled when ctx is: work is often rolled back just
// because its context died. A step's error is logged, for the caller is
// returning the error that mattered already.
func (s *Stack) Rollback(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for len(s.steps) > 0 {
		last := s.steps[len(s.steps)-1]
		s.steps = s.steps[:len(s.steps)-1]
		if err := last.do(ctx); err != nil {
			slog.WarnContext(ctx, "rollback step failed", "step", last.what, "error", err)
		}
	}
}
