package undo

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestStack(t *testing.T) {
	tests := []struct {
		name   string
		commit bool
		fail   string
		want   []string
	}{
		{"rolls back newest first", false, "", []string{"c", "b", "a"}},
		{"goes on after a failing step", false, "b", []string{"c", "b", "a"}},
		{"commit keeps all", true, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // steps must still get a live context
			func() {
				var u Stack
				defer u.Rollback(ctx)
				for _, s := range []string{"a", "b", "c"} {
					u.Push(s, func(ctx context.Context) error {
						if ctx.Err() != nil {
							t.Errorf("step %s got a dead context", s)
						}
						got = append(got, s)
						if s == tt.fail {
							return errors.New("no")
						}
						return nil
					})
				}
				if tt.commit {
					u.Commit()
				}
			}()
			if !slices.Equal(got, tt.want) {
				t.Errorf("steps ran %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRollbackOnPanic(t *testing.T) {
	ran := false
	func() {
		defer func() { _ = recover() }()
		var u Stack
		defer u.Rollback(t.Context())
		u.Push("x", func(context.Context) error { ran = true; return nil })
		panic("boom")
	}()
	if !ran {
		t.Error("a panic left the work behind")
	}
}
