package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/dhcp/wire"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
)

// A lease is one endpoint's, of all families.
type lease struct {
	k   *Keeper
	log *slog.Logger
	key dhcp.Key // of rec, never another one

	mu   sync.Mutex
	rec  record
	gone int // how many sweeps have not found the link

	stop func() // ends the goroutines and waits for them; nil: there are none
}

// record returns a copy of it.
func (l *lease) record() record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rec
}

// change changes the record, on disk first.
func (l *lease) change(ctx context.Context, f func(*record)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rec
	f(&r)
	if err := l.k.store.Put(context.WithoutCancel(ctx), name(r.Key), r); err != nil {
		return err
	}
	l.rec = r
	return nil
}

// start keeps the lease from now on.
func (l *lease) start() {
	ctx, cancel := context.WithCancel(l.k.base)
	var all sync.WaitGroup
	r := l.record()
	if r.Left == nil {
		if r.IPv4 {
			all.Go(func() { keep(ctx, l, four{l}) })
		}
		if r.Six != nil {
			all.Go(func() { keep(ctx, l, six{l}) })
		}
	}
	l.stop = func() { cancel(); all.Wait() }
}

// A place is where the lease's link is at the moment, open.
type place struct {
	wire.Link
	links *link.Handle
	ns    *netns.Handle // nil: that of this process
	// revert sets back what was set for IPv6, should there be none.
	revert []func(context.Context) error
}

func (p *place) close() {
	if p.links != nil {
		p.links.Close()
	}
	if p.ns != nil {
		p.ns.Close()
	}
}

// open finds the link: in its sandbox, or still, or again, in the host. The
// error wraps [errGone] if it is in neither.
func (r *record) open(ctx context.Context) (*place, error) {
	if r.Sandbox != "" {
		p, err := r.openSandbox(ctx)
		if !errors.Is(err, errGone) || r.IfName != "" {
			return p, err
		}
	}
	links, err := link.Open(nil)
	if err != nil {
		return nil, err
	}
	return r.in(ctx, &place{links: links}, r.Request.Link)
}

// errGone says that the lease's link is not there. errEnded says more: that its
// sandbox is not, and so never will be.
var (
	errGone  = errors.New("the link is gone")
	errEnded = fmt.Errorf("%w: its sandbox has ended", errGone)
)

func (r *record) openSandbox(ctx context.Context) (*place, error) {
	ns, err := netns.Open(r.Sandbox)
	if err != nil {
		if r.NetnsIno == 0 {
			return nil, errGone // it may come yet
		}
		return nil, errEnded
	}
	id, err := ns.ID()
	if err == nil && r.NetnsIno != 0 && id.Ino != r.NetnsIno {
		err = errEnded
	}
	if err != nil {
		ns.Close()
		return nil, err
	}
	links, err := link.Open(ns)
	if err != nil {
		ns.Close()
		return nil, err
	}
	return r.in(ctx, &place{links: links, ns: ns}, r.IfName)
}

// in finds the link in the place: by its name, or by its MAC if that is empty.
func (r *record) in(ctx context.Context, p *place, name string) (*place, error) {
	info, err := r.pick(ctx, p.links, name)
	if err != nil {
		p.close()
		return nil, err
	}
	p.Link = wire.Link{Name: info.Name, Index: info.Index, MAC: info.MAC}
	if p.ns != nil {
		p.Netns = p.ns
	}
	return p, nil
}

func (r *record) pick(ctx context.Context, links *link.Handle, name string) (link.Info, error) {
	if name != "" {
		info, err := links.Get(ctx, name)
		if errors.Is(err, bowline.ErrUnknown) {
			err = errGone
		}
		return info, err
	}
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return link.Info{}, err
	}
	all, err := links.Links(ctx)
	if err != nil {
		return link.Info{}, err
	}
	for _, info := range all {
		if bytes.Equal(info.MAC, mac) {
			return info, nil
		}
	}
	return link.Info{}, errGone
}

// behind returns the host's link that leads to where the lease's link led, to
// speak with the MAC of that one.
func (r *record) behind(ctx context.Context) (wire.Link, error) {
	mac, err := net.ParseMAC(r.MAC)
	if err != nil || r.Uplink == "" {
		return wire.Link{}, errGone
	}
	links, err := link.Open(nil)
	if err != nil {
		return wire.Link{}, err
	}
	defer links.Close()
	info, err := links.Get(ctx, r.Uplink)
	if err != nil {
		return wire.Link{}, err
	}
	return wire.Link{Name: info.Name, Index: info.Index, MAC: mac}, nil
}
