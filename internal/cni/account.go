package cni

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/bowline-net/bowline/internal/journal"
	"github.com/bowline-net/bowline/internal/meter"
	"github.com/bowline-net/bowline/internal/state"
)

// begin has log lines say which command they belong to, and whose trace. The
// trace context itself is passed on to delegated plugins as it came: it names
// the caller's span as the parent, and we make no spans of our own.
func begin(driver string, c Command) context.Context {
	slog.SetDefault(journal.Lazy(os.Stderr))
	return journal.WithFunc(context.Background(), func() []any {
		return []any{"command", c.Verb, "driver", driver, "container", c.ContainerID, "interface", c.IfName, "sandbox", c.Netns,
			"trace", journal.TraceID(os.Getenv("TRACEPARENT"))}
	})
}

// end tells how the command ended: an error to the log, and to the meter how
// long it took. That is for later and for others, so it can neither fail nor
// hold up anything: the answer has been printed.
func end(ctx context.Context, driver string, c Command, err error, start time.Time) {
	took := time.Since(start)
	if err != nil {
		slog.ErrorContext(ctx, "CNI command failed", "took", took, "error", err)
	} else {
		slog.DebugContext(ctx, "CNI command", "took", took)
	}
	if !slices.Contains([]string{"ADD", "DEL", "CHECK", "GC", "STATUS"}, c.Verb) {
		return
	}
	m, merr := meter.Open(state.MeterFile(driver))
	if merr != nil {
		slog.DebugContext(ctx, "the command was not counted", "error", merr)
		return
	}
	code := 0
	if err != nil {
		code = int(toError(err).Code)
	}
	m.Add(meter.Op{Face: "cni", Verb: c.Verb, Code: code}, took)
}
