package ipam

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/bowline-net/bowline"
)

// A pick is the choice of one set's address.
type pick struct {
	set   Set
	space space
	key   string     // of space
	want  netip.Addr // asked for; zero: any

	hint  *hint
	addr  netip.Addr
	index uint64
	asIs  bool // taken because of what it is, not because of its turn
	lift  bool // out of quarantine
}

func (p *pick) rangeOf() Range {
	for _, r := range p.set {
		if r.bounds().contains(p.addr) {
			return r
		}
	}
	return Range{}
}

// pick chooses: what was asked for, what the name had last, or the next free.
func (l *session) pick(ctx context.Context, p *pick, last []netip.Addr) (err error) {
	p.key = p.space.key()
	var fresh bool
	if p.hint, fresh, err = l.hint(p.key, p.space.size(), true); err != nil {
		return err
	}
	if fresh {
		if err := l.rebuild(p); err != nil {
			return err
		}
		if err := p.hint.describe(p.space.String()); err != nil {
			return err
		}
	}
	if p.want.IsValid() {
		return l.pickWanted(ctx, p)
	}
	for _, a := range last {
		i, ok := p.space.index(a)
		if !ok {
			continue
		}
		if _, taken, err := l.holder(a); err != nil {
			return err
		} else if !taken {
			p.addr, p.index, p.asIs = a, i, true
			return nil
		}
	}
	return l.pickNext(ctx, p)
}

func (l *session) pickWanted(ctx context.Context, p *pick) error {
	o, taken, err := l.holder(p.want)
	if err != nil {
		return err
	}
	if taken && o.isQuarantine() { // asked for by value it is tried at any time
		p.lift = true
	} else if taken {
		rec, ok, err := l.record(ctx, o)
		if err != nil || !ok || !dead(rec) {
			return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("requested address %s is taken by container %s, interface %s", p.want, o.Container, o.IfName))
		}
		if err := l.drop(ctx, rec, true); err != nil {
			return err
		}
	}
	p.addr, p.asIs = p.want, true
	p.index, _ = p.space.index(p.want)
	return nil
}

// pickNext chooses the next free address. It asks the bitmap, then what rests,
// and only when both have nothing looks at all that is taken and at who still
// lives.
func (l *session) pickNext(ctx context.Context, p *pick) error {
	now := time.Now().UnixNano()
	if err := p.hint.wake(now, 16); err != nil {
		return err
	}
	found, err := l.search(p)
	if found || err != nil {
		return err
	}
	if err := p.hint.wake(now, math.MaxUint64/2); err != nil {
		return err
	}
	if found, err = l.search(p); found || err != nil {
		return err
	}
	if found, err = l.pickResting(p); found || err != nil {
		return err
	}
	// Bits that a killed process left behind.
	if err := l.rebuild(p); err != nil {
		return err
	}
	if found, err = l.search(p); found || err != nil {
		return err
	}
	_, damage := l.reclaim(ctx) // a damaged record is no reason to stop
	if found, err = l.search(p); found || err != nil {
		return err
	}
	if found, err = l.pickResting(p); found || err != nil {
		return err
	}
	n, err := l.countQuarantined(p.space)
	if err != nil {
		return err
	}
	err = bowline.Wrong(bowline.ErrExhausted, fullText(p.space.String(), p.space.size(), n))
	if damage != nil {
		err = fmt.Errorf("%w; %w", err, damage)
	}
	return err
}

// fullText says that no address is free, n of them in quarantine.
func fullText(ranges string, size, n uint64) string {
	text := fmt.Sprintf("no free address in %s: all %d are taken", ranges, size)
	if n > 0 {
		text += fmt.Sprintf(", %d of them in quarantine, for others use them", n)
	}
	return text
}

// search chooses the next address that the bitmap and the links have as free.
func (l *session) search(p *pick) (found bool, err error) {
	for {
		i, ok, err := p.hint.next()
		if !ok || err != nil {
			return false, err
		}
		a := p.space.at(i)
		_, taken, err := l.holder(a)
		if err != nil {
			return false, err
		}
		if !taken {
			p.addr, p.index = a, i
			return true, nil
		}
		if err := p.hint.mark(i, true); err != nil {
			return false, err
		}
	}
}

// pickResting chooses the address that has rested longest.
func (l *session) pickResting(p *pick) (found bool, err error) {
	for {
		i, ok, err := p.hint.oldest()
		if !ok || err != nil {
			return false, err
		}
		a := p.space.at(i)
		if _, taken, err := l.holder(a); err != nil {
			return false, err
		} else if !taken {
			p.addr, p.index = a, i
			return true, nil
		}
	}
}

// rebuild makes the hint's bitmap from the links.
func (l *session) rebuild(p *pick) error {
	addrs, err := l.taken()
	if err != nil {
		return err
	}
	taken := make([]uint64, 0, len(addrs))
	for _, a := range addrs {
		if i, ok := p.space.index(a); ok {
			taken = append(taken, i)
		}
	}
	return p.hint.rebuild(taken)
}
