package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Change leads from one view of a range to a later one.
type Change struct {
	Head   Head
	Events []Event // in the order in which they happened; by key if Relisted

	// Relisted: the events are how two views differ, not what happened between
	// them. The first change of a watch that knew nothing is one, even if it is
	// empty: it says that the caller is up to date.
	Relisted bool
	// Rewound: and the store is not the one that the caller knew, or not as far:
	// a backup was restored, or its disk was lost. What went away may have gone
	// by that alone: think before tearing anything down.
	Rewound bool
}

// An Event is what happened to one key.
type Event struct {
	Key      string
	Old, New Entry
}

// A Watch says what changes in a range. It is for one goroutine.
type Watch struct {
	source Source
	at     string
	view   View
	listed bool // the view is one that the store had, as far as we know
	stream Stream
}

// Follow returns a watch of the range at, from a view that source, or an earlier
// client of the same store, gave. The zero View is listed and compared; so is
// one without its head.
func Follow(source Source, at string, known View) *Watch {
	w := &Watch{source: source, at: at, view: View{known.Head, maps.Clone(known.Entries)}}
	if w.view.Entries == nil {
		w.view.Entries = map[string]Entry{}
	}
	w.listed = known.Head.Revision != 0
	return w
}

// Next waits for the next change. An error loses nothing: call Next again,
// though not at once if it wraps [bowline.ErrUnavailable].
func (w *Watch) Next(ctx context.Context) (Change, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Change{}, err
		}
		if !w.listed {
			return w.relist(ctx)
		}
		batch, err := w.read(ctx)
		switch {
		case errors.Is(err, ErrCompacted) || errors.Is(err, ErrRelist):
			w.listed = false
		case err != nil:
			return Change{}, fmt.Errorf("watch %s: %w", w.at, err)
		case !batch.Head.Follows(w.view.Head):
			// Or this member lags behind the one that we had before. A list shows
			// which, for it waits until the member has caught up.
			w.Close()
			w.listed = false
		default:
			if c := w.apply(batch); len(c.Events) > 0 {
				return c, nil
			}
		}
	}
}

// Close ends the watch's stream. Next would begin another one.
func (w *Watch) Close() {
	if w.stream != nil {
		w.stream.Close()
		w.stream = nil
	}
}

// read returns the stream's next batch. After an error there is no stream,
// unless the error is that of ctx, which is no fault of the stream's.
func (w *Watch) read(ctx context.Context) (Batch, error) {
	if w.stream == nil {
		s, err := w.source.Stream(ctx, w.at, w.view.Head)
		if err != nil {
			return Batch{}, err
		}
		w.stream = s
	}
	batch, err := w.stream.Next(ctx)
	if err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
		w.Close()
	}
	return batch, err
}

func (w *Watch) relist(ctx context.Context) (Change, error) {
	view, err := w.source.List(ctx, w.at, 0)
	if err != nil {
		return Change{}, fmt.Errorf("watch %s: %w", w.at, err)
	}
	c := Change{Head: view.Head, Events: Diff(w.view.Entries, view.Entries), Relisted: true, Rewound: !view.Head.Follows(w.view.Head)}
	w.Close()
	w.view, w.listed = view, true
	return c, nil
}

// apply brings the view to the batch's head.
func (w *Watch) apply(b Batch) Change {
	c := Change{Head: b.Head}
	for _, s := range b.Steps {
		old := w.view.Entries[s.Key]
		if s.Entry == old {
			continue
		}
		if s.Entry.Exists() {
			w.view.Entries[s.Key] = s.Entry
		} else {
			delete(w.view.Entries, s.Key)
		}
		c.Events = append(c.Events, Event{s.Key, old, s.Entry})
	}
	w.view.Head = b.Head
	return c
}

// Diff returns what leads from one set of entries to another, by key.
func Diff(from, to map[string]Entry) []Event {
	var events []Event
	for key, old := range from {
		if e := to[key]; e != old {
			events = append(events, Event{key, old, e})
		}
	}
	for key, e := range to {
		if _, ok := from[key]; !ok {
			events = append(events, Event{key, Entry{}, e})
		}
	}
	slices.SortFunc(events, func(a, b Event) int { return strings.Compare(a.Key, b.Key) })
	return events
}
