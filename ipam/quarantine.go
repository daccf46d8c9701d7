package ipam

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// A Conflict is an address of ours that somebody else uses.
type Conflict struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // of who uses it
}

func (c Conflict) String() string { return fmt.Sprintf("%s is in use by %s", c.Addr, c.MAC) }

// A Quarantined is an address that nobody gets for a time, unless he asks for
// it by value.
type Quarantined struct {
	Conflict
	Since, Until time.Time
}

// target is what the links of the address point to. As an owner it has no
// container, which no owner of an address is without.
func (q Quarantined) target() string {
	return fmt.Sprintf("/%d/%d/%s", q.Since.UnixNano(), q.Until.UnixNano(), q.MAC)
}

// isQuarantine tells an owner that a link of a quarantined address names.
func (o Owner) isQuarantine() bool { return o.Container == "" && o.IfName != "" }

// parseQuarantine is the inverse of target.
func parseQuarantine(a netip.Addr, target string) (q Quarantined, ok bool) {
	f := strings.Split(target, "/")
	if len(f) != 4 || f[0] != "" {
		return q, false
	}
	since, err1 := strconv.ParseInt(f[1], 10, 64)
	until, err2 := strconv.ParseInt(f[2], 10, 64)
	mac, _ := net.ParseMAC(f[3]) // only shown
	return Quarantined{Conflict{a, mac}, time.Unix(0, since), time.Unix(0, until)}, err1 == nil && err2 == nil
}

// lasts reports whether the quarantine holds. If somebody set the clock back,
// nobody knows for how long it has.
func (q Quarantined) lasts(now time.Time) bool { return !now.Before(q.Since) && now.Before(q.Until) }

// Quarantine keeps addresses that o was given, and that somebody else uses, from
// being handed out for that time, 0 being [DefaultQuarantine]. They are o's no
// longer; what else it holds stays its own. An address that is nobody's may be told, too. The error wraps
// [bowline.ErrConflict] if one is somebody else's here.
func (s *Store) Quarantine(ctx context.Context, o Owner, d time.Duration, used ...Conflict) error {
	l, _, err := s.lock(ctx, true)
	if err != nil {
		return err
	}
	defer l.unlock()
	if err := l.quarantine(ctx, o, d, used); err != nil {
		return s.wrap(err)
	}
	rec, ok, err := l.record(ctx, o)
	if err != nil || !ok {
		return s.wrap(err)
	}
	rec.Addrs = slices.DeleteFunc(rec.Addrs, func(h held) bool { return isUsed(used, h.Addr.Addr()) })
	if len(rec.Addrs) == 0 {
		return s.wrap(l.st.Delete(ctx, recordName(o)))
	}
	return s.wrap(l.st.Put(ctx, recordName(o), rec))
}

// Replace is Quarantine that gives r.Owner others of the same sets in place of
// the addresses that somebody else uses. It returns all that the owner holds
// then. What it was given beside them stays its own. After any error the owner
// holds nothing, and the addresses are in quarantine.
func (s *Store) Replace(ctx context.Context, c Config, r Request, used ...Conflict) ([]Allocation, error) {
	return s.allocate(ctx, c, r, func(l *session) ([]netip.Addr, error) {
		if err := l.quarantine(ctx, r.Owner, c.Quarantine, used); err != nil {
			return nil, err
		}
		rec, ok, err := l.record(ctx, r.Owner)
		var damaged *state.DamagedError
		if errors.As(err, &damaged) {
			_, err := l.dropLost(ctx, r.Owner)
			return nil, err
		}
		if err != nil || !ok {
			return nil, err
		}
		var rest []netip.Addr
		for _, h := range rec.Addrs {
			if !isUsed(used, h.Addr.Addr()) {
				rest = append(rest, h.Addr.Addr())
			}
		}
		return rest, l.drop(ctx, rec, false)
	})
}

func isUsed(used []Conflict, a netip.Addr) bool {
	return slices.ContainsFunc(used, func(c Conflict) bool { return c.Addr == a })
}

// Quarantined returns what is in quarantine, sorted.
func (s *Store) Quarantined(ctx context.Context) ([]Quarantined, error) {
	l, ok, err := s.lock(ctx, false)
	if err != nil || !ok {
		return nil, err
	}
	defer l.unlock()
	all, err := l.quarantined()
	if err != nil {
		return nil, s.wrap(err)
	}
	var qs []Quarantined
	for _, q := range all {
		if q.lasts(time.Now()) {
			qs = append(qs, q)
		}
	}
	slices.SortFunc(qs, func(a, b Quarantined) int { return a.Addr.Compare(b.Addr) })
	return qs, nil
}

// nextLink is like the link of the address whose quarantine ends first, so that
// an allocation need not look at all.
const nextLink = ".next"

// quarantine moves the addresses from o into quarantine. A kill leaves each
// with o, or in quarantine.
func (l *session) quarantine(ctx context.Context, o Owner, d time.Duration, used []Conflict) error {
	now := time.Now()
	if d == 0 {
		d = DefaultQuarantine
	}
	for _, c := range used {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("quarantine %s: %w", c.Addr, err)
		}
		holder, ok, err := l.holder(c.Addr)
		if err != nil {
			return err
		}
		if ok && holder != o && !holder.isQuarantine() {
			return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("quarantine %s: it belongs to container %s, interface %s", c.Addr, holder.Container, holder.IfName))
		}
		q := Quarantined{c, now, now.Add(d)}
		if err := l.replaceLink(quarantineDir, q.target(), c.Addr.String()); err != nil {
			return err
		}
		target, err := l.readLink(quarantineDir + "/" + nextLink)
		if err != nil {
			return err
		}
		if next, ok := parseQuarantine(c.Addr, target); !ok || q.Until.Before(next.Until) {
			if err := l.replaceLink(quarantineDir, q.target(), nextLink); err != nil {
				return err
			}
		}
		if err := l.replaceLink(addrsDir, q.target(), c.Addr.String()); err != nil {
			return err
		}
	}
	return nil
}

// lift ends the quarantine of an address.
func (l *session) lift(a netip.Addr) error {
	return errors.Join(l.removeLink(addrsDir+"/"+a.String()), l.removeLink(quarantineDir+"/"+a.String()))
}

// wake ends what quarantines are over. It costs one question to the file system
// until one is.
func (l *session) wake(now time.Time) error {
	target, err := l.readLink(quarantineDir + "/" + nextLink)
	if err != nil || target == "" {
		return err
	}
	if next, ok := parseQuarantine(netip.Addr{}, target); ok && next.lasts(now) {
		return nil
	}
	return l.endQuarantines(now)
}

// endQuarantines ends those that are over, and finds the one that ends first.
func (l *session) endQuarantines(now time.Time) error {
	all, err := l.quarantined()
	if err != nil {
		return err
	}
	var over []netip.Addr
	var next Quarantined
	for a, q := range all {
		if !q.lasts(now) {
			over = append(over, a)
		} else if next.Until.IsZero() || q.Until.Before(next.Until) {
			next = q
		}
	}
	for _, a := range over {
		if err := l.lift(a); err != nil {
			return err
		}
	}
	if err := l.markFree(over); err != nil {
		return err
	}
	if next.Until.IsZero() {
		return l.removeLink(quarantineDir + "/" + nextLink)
	}
	return l.replaceLink(quarantineDir, next.target(), nextLink)
}

// markFree tells the hints of addresses that are.
func (l *session) markFree(addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	spaces, err := l.spaces()
	if err != nil {
		return err
	}
	for _, sp := range spaces {
		h, _, err := l.hint(sp.key(), sp.size(), false)
		if err != nil || h == nil {
			return err
		}
		for _, a := range addrs {
			if i, ok := sp.index(a); ok {
				if err := h.mark(i, false); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// quarantined returns what is in quarantine, though it may be over. What the
// index alone knows, for a kill came before the address was taken from its
// owner, is left out and forgotten.
func (l *session) quarantined() (map[netip.Addr]Quarantined, error) {
	names, err := os.ReadDir(filepath.Join(l.st.Dir, quarantineDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	all := map[netip.Addr]Quarantined{}
	for _, n := range names {
		a, err := netip.ParseAddr(n.Name())
		if err != nil {
			continue
		}
		target, err := l.readLink(addrsDir + "/" + n.Name())
		if err != nil {
			return nil, err
		}
		if q, ok := parseQuarantine(a, target); ok {
			all[a] = q
		} else if err := l.removeLink(quarantineDir + "/" + n.Name()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (l *session) countQuarantined(sp space) (n uint64, err error) {
	all, err := l.quarantined()
	for a := range all {
		if _, ok := sp.index(a); ok {
			n++
		}
	}
	return n, err
}

// mendQuarantine makes the index anew from the links, and ends what is over.
func (l *session) mendQuarantine(now time.Time) error {
	addrs, err := l.taken()
	for _, dir := range []string{addrsDir, quarantineDir} {
		err = errors.Join(err, l.removeLink(dir+"/"+newLink))
	}
	if err != nil {
		return err
	}
	for _, a := range addrs {
		o, ok, err := l.holder(a)
		if err != nil {
			return err
		}
		if !ok || !o.isQuarantine() {
			continue
		}
		if err := l.replaceLink(quarantineDir, "/"+o.IfName, a.String()); err != nil {
			return err
		}
	}
	if err := l.endQuarantines(now); err != nil {
		return err
	}
	if err := unix.Unlinkat(l.dir, quarantineDir, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT && err != unix.ENOTEMPTY {
		return l.at("remove", quarantineDir, err)
	}
	return nil
}

// owned returns the addresses that belong to owners.
func (l *session) owned() ([]netip.Addr, error) {
	addrs, err := l.taken()
	var owned []netip.Addr
	for _, a := range addrs {
		o, ok, herr := l.holder(a)
		err = errors.Join(err, herr)
		if ok && !o.isQuarantine() {
			owned = append(owned, a)
		}
	}
	return owned, err
}
