package memory

import (
	"container/heap"
	"sync"
	"time"
)

// A Clock is what leases run by. Each node may have its own.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f once when d has passed, unless stop is called before.
	AfterFunc(d time.Duration, f func()) (stop func())
}

// Wall is the machine's clock.
type Wall struct{}

// Now returns the time, which does not jump when the machine's is set.
func (Wall) Now() time.Time { return time.Now() }

// AfterFunc calls f in a goroutine of its own.
func (Wall) AfterFunc(d time.Duration, f func()) (stop func()) {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// A Virtual clock stands still until it is advanced. It begins at the zero time.
type Virtual struct {
	mu     sync.Mutex
	now    time.Time
	count  int // of timers ever set, so that those of one time keep their order
	timers timers
}

type timer struct {
	at    time.Time
	order int
	f     func()
	index int // in the heap, -1 once it is out
}

// Now returns the time to which the clock was advanced.
func (v *Virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// AfterFunc has Advance call f.
func (v *Virtual) AfterFunc(d time.Duration, f func()) (stop func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count++
	t := &timer{v.now.Add(d), v.count, f, 0}
	heap.Push(&v.timers, t)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if t.index >= 0 {
			heap.Remove(&v.timers, t.index)
		}
	}
}

// Advance lets d pass. What falls due is called one after the other, in the
// order of its time, by this goroutine and at its own time: also what is set
// meanwhile.
func (v *Virtual) Advance(d time.Duration) {
	v.mu.Lock()
	end := v.now.Add(d)
	for len(v.timers) > 0 && !v.timers[0].at.After(end) {
		t := heap.Pop(&v.timers).(*timer)
		if t.at.After(v.now) {
			v.now = t.at
		}
		v.mu.Unlock()
		t.f()
		v.mu.Lock()
	}
	v.now = end
	v.mu.Unlock()
}

// timers is a heap of what comes first.
type timers []*timer

func (h timers) Len() int { return len(h) }

func (h timers) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].order < h[j].order
	}
	return h[i].at.Before(h[j].at)
}

func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.index = -1
	return t
}
