package keeper

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/dhcp/wire"
)

// release gives a lease up, now or when nobody has adopted it in time.
func (k *Keeper) release(ctx context.Context, r dhcp.Released) (none dhcp.Nothing, err error) {
	ctx = context.WithoutCancel(ctx) // half given up helps nobody
	end, err := k.turn(ctx, r.Key)
	if err != nil {
		return none, err
	}
	defer end()
	l := k.find(r.Key)
	if l == nil {
		return none, nil
	}
	if r.Within <= 0 || l.record().Four == nil {
		return none, l.end(ctx, "it was given up")
	}
	l.halt()
	err = l.change(ctx, func(rec *record) {
		if rec.Left == nil {
			rec.Left = &lastWill{now().add(r.Within)}
		}
	})
	select {
	case k.soon <- struct{}{}:
	default:
	}
	return none, err
}

// adopt hands a lease that was given up to the endpoint that follows.
func (k *Keeper) adopt(ctx context.Context, a dhcp.Adopted) (none dhcp.Heir, err error) {
	end, err := k.turn(ctx, a.Key)
	if err != nil {
		return none, err
	}
	defer end()
	if k.find(a.Key) != nil {
		return none, nil
	}
	for _, l := range k.all(a.Network) {
		if r := l.record(); r.Left == nil || r.Mark != a.Mark {
			continue
		}
		heir, err := k.hand(ctx, l, a)
		if err != nil || heir.MAC != "" {
			return heir, err
		}
	}
	return none, nil
}

// hand makes a's lease of l, unless that has ended meanwhile.
func (k *Keeper) hand(ctx context.Context, l *lease, a dhcp.Adopted) (none dhcp.Heir, err error) {
	end, err := k.turn(ctx, l.key)
	if err != nil {
		return none, err
	}
	defer end()
	if k.find(l.key) != l {
		return none, nil
	}
	r := l.record()
	if r.Left == nil {
		return none, nil
	}
	old := r.Key
	r.Key, r.Sandbox, r.NetnsIno = a.Key, "", 0
	// If nobody asks for it, it ends when it would have.
	if err := k.store.Put(ctx, name(r.Key), r); err != nil {
		return none, err
	}
	k.forget(l)
	k.add(r)
	return dhcp.Heir{MAC: r.MAC}, k.store.Delete(context.WithoutCancel(ctx), name(old))
}

// halt ends what goes on for the lease, and leaves the lease.
func (l *lease) halt() {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
}

// end tells the servers that the lease is given up, and erases its record. It
// is for whoever has the turn of the endpoint.
func (l *lease) end(ctx context.Context, why string) error {
	l.halt()
	r := l.record()
	if r.Four != nil || r.Six != nil {
		l.giveBack(ctx, r, why)
	}
	if err := l.k.store.Delete(ctx, name(r.Key)); err != nil {
		return err
	}
	l.k.forget(l)
	return nil
}

func (k *Keeper) forget(l *lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.leases[l.key] == l {
		delete(k.leases, l.key)
	}
}

// giveBack tells the servers, from the link's place if it is there, or from the
// host's link behind it. Where both are gone the servers will learn of it when
// the lease ends.
func (l *lease) giveBack(ctx context.Context, r record, why string) {
	log := l.log.With("why", why)
	err := errGone
	if p, operr := l.k.open(ctx, &r); operr == nil {
		if p.MAC.String() == r.MAC {
			err = r.releaseFrom(p.Link)
		}
		p.close()
	}
	if err != nil {
		var behind wire.Link
		if behind, err = r.behind(ctx); err == nil {
			err = r.releaseFrom(behind)
		}
	}
	if err != nil {
		log.Warn("lease not released, it ends by itself", "error", err)
		return
	}
	log.Info("lease released")
}

func (r *record) releaseFrom(from wire.Link) error {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return err
	}
	from.MAC = mac
	var errs []error
	if r.Four != nil {
		errs = append(errs, r.four(from).Release(r.Four.Binding4))
	}
	if r.Six != nil {
		errs = append(errs, r.six(from).Release(r.Six.Binding6))
	}
	return errors.Join(errs...)
}

// sweepEvery is how often leases are looked for whose endpoint is gone.
const sweepEvery = 30 * time.Second

// Sweep ends leases whose endpoint has gone without a word, and those that were
// given up and adopted by nobody, until ctx ends.
func (k *Keeper) Sweep(ctx context.Context) {
	for ctx.Err() == nil {
		next := now().add(sweepEvery)
		for _, l := range k.all("") {
			if due := k.sweep(ctx, l); due != 0 && due < next {
				next = due
			}
		}
		inner, cancel := context.WithCancel(ctx)
		go func() {
			defer cancel()
			select {
			case <-k.soon:
			case <-inner.Done():
			}
		}()
		sleep(inner, next)
		cancel()
	}
}

// sweep looks after one lease, and returns when to look again if that is known.
func (k *Keeper) sweep(ctx context.Context, l *lease) (again instant) {
	end, err := k.turn(ctx, l.key)
	if err != nil {
		return 0
	}
	defer end()
	if k.find(l.key) != l {
		return 0
	}
	r := l.record()
	if r.Left != nil {
		if now() < r.Left.Until {
			return r.Left.Until
		}
		l.sweepOut(ctx, "it was given up")
		return 0
	}
	p, err := k.open(ctx, &r)
	switch {
	case err == nil:
		defer p.close()
		l.gone = 0
		l.settle(ctx, r, p)
	case errors.Is(err, errEnded):
		l.sweepOut(ctx, "its sandbox has ended")
	case errors.Is(err, errGone):
		// Docker moves links about, so once is not enough.
		if l.gone++; l.gone > 1 {
			l.sweepOut(ctx, "its link is gone")
		}
	}
	return 0
}

func (l *lease) sweepOut(ctx context.Context, why string) {
	if err := l.end(ctx, why); err != nil {
		l.complain(ctx, err, "lease not ended")
	}
}

// settle learns what can be known only now that the link is where it is.
func (l *lease) settle(ctx context.Context, r record, p *place) {
	if p.ns != nil && r.NetnsIno == 0 {
		if id, err := p.ns.ID(); err == nil {
			if err := l.change(ctx, func(r *record) { r.NetnsIno = id.Ino }); err != nil {
				l.complain(ctx, err, "record not written")
			}
		}
	}
	if r.Router != nil {
		if err := l.follow6(ctx, r, p); err != nil {
			l.complain(ctx, err, "addresses of the kernel not followed")
		}
	}
}
