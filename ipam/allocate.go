package ipam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// Allocate gives r.Owner one address of each set of c, in the order of the
// sets.
//
// The error wraps [bowline.ErrInvalid] if c or r is wrong, a wanted address
// outside of the ranges included; [bowline.ErrConflict] if a wanted address is
// taken or the owner holds addresses already; [bowline.ErrExhausted] if a set
// has no free address, after all whose namespace is gone have been reclaimed.
// What an earlier ADD left that was killed, or whose namespace is gone, is no
// conflict. After any error the owner holds nothing.
func (s *Store) Allocate(ctx context.Context, c Config, r Request) ([]Allocation, error) {
	return s.allocate(ctx, c, r, func(l *session) ([]netip.Addr, error) { return nil, l.clear(ctx, r.Owner) })
}

// allocate has makeWay make sure that the owner holds nothing; what it returns
// is wanted too.
func (s *Store) allocate(ctx context.Context, c Config, r Request, makeWay func(*session) ([]netip.Addr, error)) ([]Allocation, error) {
	if err := r.Owner.validate(); err != nil {
		return nil, s.wrap(err)
	}
	spaces, err := c.spaces()
	if err != nil {
		return nil, s.wrap(err)
	}
	if _, err := assign(spaces, r.Want); err != nil {
		return nil, s.wrap(err)
	}
	l, _, err := s.lock(ctx, true)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	more, err := makeWay(l)
	if err == nil {
		err = l.wake(time.Now())
	}
	if err != nil {
		return nil, s.wrap(err)
	}
	asked, err := assign(spaces, slices.Concat(r.Want, more))
	if err != nil {
		return nil, s.wrap(err)
	}
	var last []netip.Addr
	if r.Name != "" {
		if last, err = l.remembered(r.Name); err != nil {
			return nil, s.wrap(err)
		}
	}
	picks := make([]pick, len(spaces))
	for i, sp := range spaces {
		p := pick{set: c.Sets[i], space: sp, want: asked[i]}
		if err := l.pick(ctx, &p, last); err != nil {
			return nil, s.wrap(err)
		}
		picks[i] = p
	}
	rec := newRecord(c, r, picks)
	if err := l.commit(ctx, rec, picks); err != nil {
		return nil, s.wrap(err)
	}
	return rec.allocations(), nil
}

// assign says which wanted address belongs to which set; the zero Addr is any.
func assign(spaces []space, want []netip.Addr) ([]netip.Addr, error) {
	asked := make([]netip.Addr, len(spaces))
	for _, a := range want {
		a = a.Unmap()
		i := slices.IndexFunc(spaces, func(sp space) bool { _, ok := sp.index(a); return ok })
		if i < 0 {
			var texts []string
			for _, sp := range spaces {
				texts = append(texts, sp.String())
			}
			return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("requested address %s: want one of %s", a, strings.Join(texts, " or ")))
		}
		if asked[i].IsValid() && asked[i] != a { // podman says each twice
			return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("requested addresses %s and %s are both of %s: want one of each set of ranges", asked[i], a, spaces[i]))
		}
		asked[i] = a
	}
	return asked, nil
}

// clear makes way for o: it is a conflict if o holds addresses, but not if
// that is the rest of an ADD that was killed or if o's namespace is gone.
func (l *session) clear(ctx context.Context, o Owner) error {
	rec, ok, err := l.record(ctx, o)
	var damaged *state.DamagedError
	if errors.As(err, &damaged) {
		_, err := l.dropLost(ctx, o)
		return err
	}
	if err != nil || !ok {
		return err
	}
	if dead(rec) {
		return l.drop(ctx, rec, true)
	}
	texts := make([]string, len(rec.Addrs))
	for i, h := range rec.Addrs {
		holder, ok, err := l.holder(h.Addr.Addr())
		if err != nil {
			return err
		}
		if !ok || holder != o {
			return l.drop(ctx, rec, false)
		}
		texts[i] = h.Addr.String()
	}
	return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("container %s, interface %s holds %s already; release it first", o.Container, o.IfName, strings.Join(texts, ", ")))
}

// dead says whether what had the addresses is known to be gone. What cannot be
// looked at is not.
func dead(r record) bool {
	if r.NetnsIno == 0 {
		return false
	}
	if id, ok := netns.Stat(r.Sandbox); ok {
		return id != netns.ID{Dev: r.NetnsDev, Ino: r.NetnsIno}
	}
	_, err := os.Stat(r.Sandbox)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

func newRecord(c Config, r Request, picks []pick) record {
	rec := record{
		Container: r.Owner.Container, IfName: r.Owner.IfName, Name: r.Name, Sandbox: r.Sandbox,
		Cooldown: c.Cooldown, Created: time.Now().UTC(),
	}
	if r.Sandbox != "" {
		id, _ := netns.Stat(r.Sandbox)
		rec.NetnsDev, rec.NetnsIno = id.Dev, id.Ino
	}
	for _, p := range picks {
		rg := p.rangeOf()
		rec.Addrs = append(rec.Addrs, held{netip.PrefixFrom(p.addr, rg.Subnet.Bits()), rg.Gateway, p.key, p.index})
	}
	return rec
}

// commit writes down what was picked: first the record, so that a kill leaves
// no address whose owner is unknown, then the links, which count.
func (l *session) commit(ctx context.Context, rec record, picks []pick) error {
	o := rec.owner()
	if err := l.st.Put(ctx, recordName(o), rec); err != nil {
		return err
	}
	for _, p := range picks {
		if p.lift {
			if err := l.lift(p.addr); err != nil {
				return errors.Join(err, l.drop(context.WithoutCancel(ctx), rec, false))
			}
		}
		if err := l.take(ctx, p.addr, o); err != nil {
			return errors.Join(err, l.drop(context.WithoutCancel(ctx), rec, false))
		}
	}
	// From here on it is done: the hints mend themselves.
	for _, p := range picks {
		_ = p.hint.mark(p.index, true)
		if p.asIs {
			_ = p.hint.forget(p.index)
		} else {
			p.hint.moveCursor(p.index)
		}
		_ = p.hint.save()
	}
	return nil
}
