package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// When a pass follows events. What breaks one thing often breaks many, one after
// the other: so it waits until nothing has come for a while, but not for long.
const (
	quiet   = 30 * time.Millisecond
	longest = 150 * time.Millisecond
	// Passes over many endpoints take time: they may take a fifth of it, unless
	// that would make a repair late.
	restFactor  = 4
	longestRest = 600 * time.Millisecond
	// Somebody who undoes each repair at once is told, and then kept up with
	// more and more slowly.
	patience = 10 // passes in a row that repaired something
	slowest  = 30 * time.Second
)

// watch repairs whatever differs now, and then whenever the driver tells that
// something may, until ctx is done. report is called with what was found, of
// what could not be repaired only once.
func (in *inspector) watch(ctx context.Context, report func([]Finding, error)) error {
	w, ok := in.driver.(bowline.Watcher)
	if !ok {
		return fmt.Errorf("%w: %s cannot watch", bowline.ErrUnavailable, in.Name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := pending{signal: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		defer in.watching.Store(false)
		ended <- w.Watch(ctx, func() {
			in.watching.Store(true)
			p.add(bowline.Event{All: true})
		}, p.add)
	}()
	var told tidings
	fights := 0
	for {
		select {
		case <-p.signal:
		case <-after(in.again):
			p.add(bowline.Event{All: true})
		case err := <-ended:
			return err
		}
		p.settle(ctx)
		start := time.Now()
		events := p.take()
		fs, err := in.pass(ctx, in.choose(ctx, events), true)
		if ctx.Err() != nil {
			return <-ended
		}
		if fs = told.news(fs, events.all); len(fs) > 0 || err != nil {
			report(fs, err)
		}
		fights++
		if !repairedAny(fs) {
			fights = 0
		}
		pause(ctx, max(min(restFactor*time.Since(start), longestRest), backOff(fights)))
	}
}

// keepRight is watch for a process that serves, as a part of it: what it does is
// logged, and if it cannot, then it is not done.
func (in *inspector) keepRight(ctx context.Context, log *slog.Logger) {
	var err error
	for err == nil && ctx.Err() == nil {
		err = in.watch(ctx, func(fs []Finding, err error) {
			if err != nil {
				log.Warn("records unreadable", "error", err)
			}
			for _, f := range fs {
				if f.Repaired {
					log.Warn("repaired", "network", f.Network, "endpoint", f.ID, "found", f.text())
				} else {
					log.Error("not repaired", "network", f.Network, "endpoint", f.ID, "found", f.text())
				}
			}
		})
	}
	if err != nil {
		log.Error("nothing is repaired from now on", "error", err)
	}
}

// after returns a channel that is ready at the time, never if that is zero.
func after(at time.Time) <-chan time.Time {
	if at.IsZero() {
		return nil
	}
	return time.After(time.Until(at))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func backOff(fights int) time.Duration {
	if fights <= patience {
		return 0
	}
	return min(slowest, 100*time.Millisecond<<min(fights-patience, 10))
}

func repairedAny(fs []Finding) bool {
	for _, f := range fs {
		if f.Repaired {
			return true
		}
	}
	return false
}

// choose returns whose sandboxes the events are about, nil for all.
func (in *inspector) choose(ctx context.Context, e events) func(target) bool {
	if e.all {
		return nil
	}
	if len(e.sandboxes) == 0 {
		return func(target) bool { return false }
	}
	h, err := link.Open(nil)
	if err != nil {
		return nil
	}
	defer h.Close()
	links, err := h.SeeAll(ctx)
	if err != nil {
		return nil
	}
	chosen := map[string]bool{} // of those without a link in the host, by path
	return func(t target) bool {
		l, there := links[t.record.Link]
		if there || t.record.Link != "" {
			return !there || e.sandboxes[l.Peer]
		}
		yes, known := chosen[t.record.Sandbox]
		if !known {
			yes = e.in(ctx, t)
			chosen[t.record.Sandbox] = yes
		}
		return yes
	}
}

// in reports whether one of the events is of the target's sandbox, as far as is
// known.
func (e events) in(ctx context.Context, t target) bool {
	sandbox := openSandbox(t.record)
	if sandbox == nil {
		return false
	}
	defer sandbox.Close()
	h, err := link.Open(nil)
	if err != nil {
		return true
	}
	defer h.Close()
	id, err := h.Identify(ctx, sandbox)
	return err != nil || e.sandboxes[id]
}

// events are what came since the last pass.
type events struct {
	all       bool
	sandboxes map[int]bool
}

// pending collects events.
type pending struct {
	signal chan struct{} // has room for one
	mu     sync.Mutex    // guards events
	events
}

func (p *pending) add(e bowline.Event) {
	p.mu.Lock()
	p.all = p.all || e.All
	if e.Sandbox >= 0 {
		if p.sandboxes == nil {
			p.sandboxes = map[int]bool{}
		}
		p.sandboxes[e.Sandbox] = true
	}
	p.mu.Unlock()
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// take returns the events and forgets them.
func (p *pending) take() events {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.events
	p.events = events{}
	return e
}

// settle waits until no event has come for a while, or for long enough.
func (p *pending) settle(ctx context.Context) {
	end := time.After(longest)
	for {
		select {
		case <-p.signal:
		case <-time.After(quiet):
			return
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// tidings are what could not be repaired and has been told.
type tidings map[Finding]bool

// news returns what is new of fs, which is all there is, or a part of it.
func (t *tidings) news(fs []Finding, all bool) []Finding {
	now := tidings{}
	if !all {
		maps.Copy(now, *t)
	}
	var fresh []Finding
	for _, f := range fs {
		if !f.Repaired {
			now[f] = true
		}
		if !(*t)[f] {
			fresh = append(fresh, f)
		}
	}
	*t = now
	return fresh
}
