package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// Release takes back what o holds and returns it. It succeeds if that is
// nothing. Beside an error that wraps [bowline.ErrDamaged] all has been
// released too: the record could not be read, so what belongs to o was found
// by search.
func (s *Store) Release(ctx context.Context, o Owner) ([]Allocation, error) {
	l, ok, err := s.lock(ctx, false)
	if err != nil || !ok {
		return nil, err
	}
	defer l.unlock()
	rec, ok, err := l.record(ctx, o)
	var damaged *state.DamagedError
	if errors.As(err, &damaged) || err == nil && !ok && l.sawDamage() {
		as, lostErr := l.dropLost(ctx, o)
		return as, s.wrap(errors.Join(lostErr, err))
	}
	if err != nil || !ok {
		return nil, s.wrap(err)
	}
	if err := l.drop(ctx, rec, true); err != nil {
		return nil, s.wrap(err)
	}
	return rec.allocations(), nil
}

// drop takes back what rec lists, first the links, then the record, so that a
// kill leaves nothing unknown. Without rest the addresses are free at once, as
// nobody ever used them.
func (l *session) drop(ctx context.Context, rec record, rest bool) error {
	if rest && rec.Name != "" {
		l.remember(rec)
	}
	for _, h := range rec.Addrs {
		was, err := l.give(ctx, h.Addr.Addr(), rec.owner())
		if err != nil {
			return err
		}
		if was {
			l.note(rec, h, rest)
		}
	}
	return l.st.Delete(ctx, recordName(rec.owner()))
}

// note tells the hint. It fails silently, for what a hint does not know it
// finds out when addresses seem to run short.
func (l *session) note(rec record, h held, rest bool) {
	hint, _, err := l.hint(h.Space, 0, false)
	if err != nil || hint == nil {
		return
	}
	if !rest || rec.Cooldown == 0 && rec.Name == "" {
		_ = hint.mark(h.Index, false)
		return
	}
	forgotten, err := hint.rest(h.Index, time.Now().Add(rec.Cooldown).UnixNano(), nameKey(rec.Name))
	if err == nil && forgotten != 0 {
		_ = l.removeLink(nameLink(forgotten))
	}
}

// sawDamage says whether records of this network have ever been set aside.
func (l *session) sawDamage() bool {
	_, err := os.Stat(filepath.Join(l.st.Dir, "damaged"))
	return err == nil
}

// dropLost takes back what belongs to o though its record is lost.
func (l *session) dropLost(ctx context.Context, o Owner) ([]Allocation, error) {
	addrs, err := l.linksOf(o)
	if err != nil {
		return nil, err
	}
	var as []Allocation
	for _, a := range addrs {
		if _, err := l.give(ctx, a, o); err != nil {
			return as, err
		}
		as = append(as, Allocation{Addr: netip.PrefixFrom(a, a.BitLen()), Owner: o})
	}
	return as, nil
}

// Lookup returns what o holds.
func (s *Store) Lookup(ctx context.Context, o Owner) ([]Allocation, error) {
	rec, ok, err := s.record(ctx, o)
	if err != nil || !ok {
		return nil, s.wrap(err)
	}
	return rec.allocations(), nil
}

// Check returns nil if every address of addrs belongs to o. The error wraps
// [bowline.ErrDiffers] and names the first that does not.
func (s *Store) Check(ctx context.Context, o Owner, addrs []netip.Addr) error {
	l, ok, err := s.lock(ctx, false)
	if err != nil {
		return err
	}
	if ok {
		defer l.unlock()
	}
	for _, a := range addrs {
		if !ok {
			return s.wrap(bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("%s is not reserved for container %s, interface %s, nor is any other address", a, o.Container, o.IfName)))
		}
		switch holder, taken, err := l.holder(a.Unmap()); {
		case err != nil:
			return s.wrap(err)
		case !taken:
			return s.wrap(bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("%s is not reserved for container %s, interface %s", a, o.Container, o.IfName)))
		case holder.isQuarantine():
			return s.wrap(bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("%s is in quarantine, not reserved for container %s, interface %s", a, o.Container, o.IfName)))
		case holder != o:
			return s.wrap(bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("%s is reserved for container %s, interface %s, not for container %s, interface %s", a, holder.Container, holder.IfName, o.Container, o.IfName)))
		}
	}
	_, found, err := s.record(ctx, o)
	if err == nil && !found {
		err = bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("nothing is reserved for container %s, interface %s", o.Container, o.IfName))
	}
	return s.wrap(err)
}

// Holder returns whom a belongs to; ok is false if it is free. The zero Owner
// says that it is in quarantine.
func (s *Store) Holder(ctx context.Context, a netip.Addr) (o Owner, ok bool, err error) {
	l, ok, err := s.lock(ctx, false)
	if err != nil || !ok {
		return Owner{}, false, err
	}
	defer l.unlock()
	if err := l.wake(time.Now()); err != nil {
		return Owner{}, false, s.wrap(err)
	}
	o, ok, err = l.holder(a.Unmap())
	if o.isQuarantine() {
		o = Owner{}
	}
	return o, ok, s.wrap(err)
}
