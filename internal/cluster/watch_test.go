package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestFollows(t *testing.T) {
	t.Parallel()
	old := Head{Cluster: 5, Term: 3, Revision: 100}
	for _, tt := range []struct {
		now  Head
		want bool
	}{
		{old, true},
		{Head{5, 3, 101}, true},
		{Head{5, 4, 100}, true},
		{Head{5, 3, 99}, false},
		{Head{5, 2, 200}, false},
		{Head{6, 3, 200}, false},
	} {
		if got := tt.now.Follows(old); got != tt.want {
			t.Errorf("%+v follows %+v: %v, want %v", tt.now, old, got, tt.want)
		}
		if !tt.now.Follows(Head{}) {
			t.Errorf("%+v does not follow knowing nothing", tt.now)
		}
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	one, two, other := Entry{"1", 1}, Entry{"2", 2}, Entry{"x", 1}
	got := Diff(map[string]Entry{"/same": one, "/new": one, "/gone": two, "/value": one}, map[string]Entry{"/same": one, "/new": two, "/came": two, "/value": other})
	want := []Event{{"/came", Entry{}, two}, {"/gone", two, Entry{}}, {"/new", one, two}, {"/value", one, other}}
	if !slices.Equal(got, want) {
		t.Errorf("difference is %+v, want %+v", got, want)
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key, at string
		want    bool
	}{
		{"/a", "/a", true}, {"/a/b", "/a", false}, {"/ab", "/a", false}, {"/a/b", "/a/", true}, {"/a", "/a/", false}, {"/ab", "/a/", false},
	} {
		if got := Within(tt.key, tt.at); got != tt.want {
			t.Errorf("%s within %s: %v, want %v", tt.key, tt.at, got, tt.want)
		}
	}
}

// A script is a source that says what it is told to, one answer after another.
type script struct {
	t     *testing.T
	lines []line
}

type line struct {
	view  *View // the answer to a list
	open  bool  // the answer to a stream that begins after head
	head  Head
	batch Batch // the answer to a stream's Next
	err   error
}

func (s *script) say() line {
	if len(s.lines) == 0 {
		return line{err: context.DeadlineExceeded}
	}
	l := s.lines[0]
	s.lines = s.lines[1:]
	return l
}

func (s *script) List(context.Context, string, int64) (View, error) {
	l := s.say()
	if l.view == nil {
		if l.err == nil {
			s.t.Errorf("listed, want %+v", l)
		}
		return View{}, l.err
	}
	return View{l.view.Head, maps.Clone(l.view.Entries)}, l.err
}

func (s *script) Stream(_ context.Context, _ string, after Head) (Stream, error) {
	l := s.say()
	if l.err == nil && (!l.open || l.head != after) {
		s.t.Errorf("streamed after %+v, want %+v", after, l)
	}
	return s, l.err
}

func (s *script) Next(context.Context) (Batch, error) {
	l := s.say()
	if l.err == nil && (l.view != nil || l.open) {
		s.t.Errorf("asked for more, want %+v", l)
	}
	return l.batch, l.err
}

func (s *script) Close() {}

// TestWatchFaults goes through what the members of a store may answer.
func TestWatchFaults(t *testing.T) {
	t.Parallel()
	at := func(n int64) Head { return Head{1, 1, n} }
	a := func(n int64) Entry { return Entry{"a", n} }
	view := func(h Head, e Entry) *View { return &View{h, map[string]Entry{"/a": e}} }
	listed := Change{at(10), []Event{{"/a", Entry{}, a(9)}}, true, false}
	start := []line{{view: view(at(10), a(9))}, {open: true, head: at(10)}}
	for _, tt := range []struct {
		name  string
		lines []line
		want  []Change // after the first
		err   error
	}{
		{"goes on", []line{{batch: Batch{at(12), []Step{{"/a", a(11)}, {"/b", a(11)}, {"/b", Entry{}}}}}},
			[]Change{{at(12), []Event{{"/a", a(9), a(11)}, {"/b", Entry{}, a(11)}, {"/b", a(11), Entry{}}}, false, false}}, context.DeadlineExceeded},
		{"progress moves where a new stream begins", []line{{batch: Batch{Head: at(50)}}, {err: bowline.ErrUnavailable}, {open: true, head: at(50)}}, nil, context.DeadlineExceeded},
		{"compacted", []line{{err: ErrCompacted}, {view: view(at(20), a(15))}}, []Change{{at(20), []Event{{"/a", a(9), a(15)}}, true, false}}, context.DeadlineExceeded},
		{"compacted, nothing changed", []line{{err: ErrCompacted}, {view: view(at(20), a(9))}}, []Change{{at(20), nil, true, false}}, context.DeadlineExceeded},
		{"member lags", []line{{batch: Batch{Head: at(8)}}, {view: view(at(10), a(9))}}, []Change{{at(10), nil, true, false}}, context.DeadlineExceeded},
		{"rewound", []line{{batch: Batch{Head: at(8)}}, {view: view(at(8), a(7))}}, []Change{{at(8), []Event{{"/a", a(9), a(7)}}, true, true}}, context.DeadlineExceeded},
		{"rewound and ahead, by its term", []line{{batch: Batch{Head{1, 0, 20}, []Step{{"/a", a(20)}}}}, {view: view(Head{1, 0, 20}, a(20))}},
			[]Change{{Head{1, 0, 20}, []Event{{"/a", a(9), a(20)}}, true, true}}, context.DeadlineExceeded},
		{"same revision, other value", []line{{err: ErrRelist}, {view: view(at(10), Entry{"b", 9})}}, []Change{{at(10), []Event{{"/a", a(9), Entry{"b", 9}}}, true, false}}, context.DeadlineExceeded},
		{"no list yet", []line{{err: ErrRelist}, {err: bowline.ErrUnavailable}, {view: view(at(10), a(9))}}, []Change{{at(10), nil, true, false}}, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := Follow(&script{t, slices.Concat(start, tt.lines)}, "/", View{})
			defer w.Close()
			var got []Change
			for {
				c, err := w.Next(t.Context())
				if errors.Is(err, bowline.ErrUnavailable) {
					continue
				}
				if err != nil {
					if !errors.Is(err, tt.err) {
						t.Errorf("ends with %v, want %v", err, tt.err)
					}
					break
				}
				got = append(got, c)
			}
			if want := append([]Change{listed}, tt.want...); !slices.EqualFunc(got, want, equal) {
				t.Errorf("changes are\n%+v, want\n%+v", got, want)
			}
		})
	}
}

func equal(a, b Change) bool {
	return a.Head == b.Head && a.Relisted == b.Relisted && a.Rewound == b.Rewound && slices.Equal(a.Events, b.Events)
}
