package cnm

import (
	"context"
	"fmt"
	"sync"
)

// locks is a mutex per key, so that a slow call of one network does not hold up
// the others. The zero value is ready.
type locks struct {
	// also, if set, is locked with each key: what keeps other processes out.
	also func(key string) (unlock func(), err error)

	mu   sync.Mutex // guards held
	held map[string]*keyLock
}

type keyLock struct {
	turn  chan struct{} // holds one token while locked
	users int           // holders and waiters
}

// lock waits for the key's lock, or for the end of ctx.
func (l *locks) lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*keyLock{}
	}
	k := l.held[key]
	if k == nil {
		k = &keyLock{turn: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()

	select {
	case k.turn <- struct{}{}:
		unlock := func() { <-k.turn; l.leave(key, k) }
		if l.also == nil {
			return unlock, nil
		}
		also, err := l.also(key)
		if err != nil {
			unlock()
			return nil, err
		}
		return func() { also(); unlock() }, nil
	case <-ctx.Done():
		l.leave(key, k)
		return nil, fmt.Errorf("wait for other calls of network %.12s: %w", key, ctx.Err())
	}
}

func (l *locks) leave(key string, k *keyLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}
