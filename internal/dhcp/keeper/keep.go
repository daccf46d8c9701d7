package keeper

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/bowline-net/bowline/internal/dhcp/wire"
)

// A family is a binding of a lease, of DHCPv4 or of DHCPv6.
type family interface {
	// times returns those of the binding; ok is false if there is none.
	times() (t times, ok bool)
	// extend has the binding renewed, or rebound, and applies what changed.
	extend(ctx context.Context, p *place, rebind bool) error
	// acquire gets a new binding, and applies what changed.
	acquire(ctx context.Context, p *place) error
	// lose forgets the binding, and takes what it gave from the link.
	lose(ctx context.Context) error
}

// times are when something is due of a binding. No end is never.
type times struct {
	since       instant
	t1, t2, end time.Duration
}

// What is due.
type phase int

const (
	bound phase = iota
	renewing
	rebinding
	expired
)

// at returns what is due at the time i, and until when.
func (t times) at(i instant) (p phase, until instant) {
	age := i.sub(t.since)
	switch {
	case t.end == 0:
		return bound, i.add(24 * time.Hour)
	case age < t.t1:
		return bound, t.since.add(t.t1)
	case age < t.t2:
		return renewing, t.since.add(t.t2)
	case age < t.end:
		return rebinding, t.since.add(t.end)
	}
	return expired, i
}

// pause returns how long to wait after a try that was not answered: half the
// time that is left, but a minute at least (RFC 2131, 4.4.5). That is for leases
// of hours. Of one that is shorter it is a twentieth at least, and of any an
// eighth at most, for servers come back.
func (t times) pause(left time.Duration) time.Duration {
	least := max(min(time.Minute, t.end/20), time.Second)
	return min(max(min(left/2, t.end/8), least), max(left, 0)+time.Millisecond)
}

// How long one try of each kind may take, and what is between tries to get a
// new binding: 1 s at first, doubled each time.
const (
	extendWithin  = 8 * time.Second
	acquireWithin = 10 * time.Second
	longestPause  = time.Minute
)

// keep keeps the binding until ctx ends. It goes on whatever goes wrong: servers
// come back, and sandboxes that have ended are the sweep's business.
func keep(ctx context.Context, l *lease, f family) {
	for failures := 0; ctx.Err() == nil; {
		t, ok := f.times()
		if !ok {
			if err := l.within(ctx, acquireWithin, f.acquire); err != nil {
				pause := min(time.Second<<min(failures, 10), longestPause)
				failures++
				l.complain(ctx, err, "no new lease", "again in", pause)
				sleep(ctx, now().add(pause+time.Duration(rand.Int64N(int64(pause/4)))))
				continue
			}
			failures = 0
			continue
		}
		what, until := t.at(now())
		switch what {
		case bound:
			sleep(ctx, until)
		case expired:
			l.lose(ctx, f, "it has expired")
		default:
			err := l.within(ctx, extendWithin, func(ctx context.Context, p *place) error {
				return f.extend(ctx, p, what == rebinding)
			})
			switch {
			case err == nil:
			case errors.Is(err, wire.ErrRefused):
				l.lose(ctx, f, err.Error())
			default:
				pause := t.pause(until.sub(now()))
				l.complain(ctx, err, "lease not renewed", "again in", pause)
				sleep(ctx, now().add(pause))
			}
		}
	}
}

func (l *lease) complain(ctx context.Context, err error, text string, more ...any) {
	if ctx.Err() == nil { // or it was told to end
		l.log.Warn(text, append([]any{"error", err}, more...)...)
	}
}

func (l *lease) lose(ctx context.Context, f family, why string) {
	l.log.Warn("lease lost", "why", why)
	if err := f.lose(ctx); err != nil {
		l.complain(ctx, err, "address not taken from the link")
		sleep(ctx, now().add(time.Second))
	}
}

// within opens the link's place, runs f for so long at most, and closes it.
func (l *lease) within(ctx context.Context, limit time.Duration, f func(context.Context, *place) error) error {
	r := l.record()
	p, err := l.k.open(ctx, &r)
	if err != nil {
		return err
	}
	defer p.close()
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(inner, p)
}

// sleep waits until the time i, or the end of ctx. Timers stop while the machine
// sleeps, and an instant does not: so it looks again and again.
func sleep(ctx context.Context, i instant) {
	const look = 30 * time.Second
	for {
		left := i.sub(now())
		if left <= 0 {
			return
		}
		t := time.NewTimer(min(left, look))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}
