package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cni"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
)

// An inspector compares targets with what they should be, on the host's side by
// the driver and in the sandbox, which is the face's.
type inspector struct {
	Spec
	driver bowline.Inspector
	// again is when to look again at what it was too early for, or what somebody
	// else held; zero: never.
	again time.Time
	// watching is true while nothing that happens goes unseen.
	watching *atomic.Bool
}

// lookAgain makes sure of a look at that time.
func (in *inspector) lookAgain(at time.Time) {
	if in.again.IsZero() || at.Before(in.again) {
		in.again = at
	}
}

func (s Spec) inspector() (*inspector, error) {
	d, err := s.New(false)
	if err != nil {
		return nil, err
	}
	return s.inspectorOf(d)
}

func (s Spec) inspectorOf(d bowline.Driver) (*inspector, error) {
	in, ok := d.(bowline.Inspector)
	if !ok {
		return nil, fmt.Errorf("%w: %s cannot tell what differs", bowline.ErrUnavailable, s.Name)
	}
	return &inspector{Spec: s, driver: in, watching: new(atomic.Bool)}, nil
}

// diff returns what differs at each target. It looks into the sandboxes for which
// look is true; nil: into all.
func (in *inspector) diff(ctx context.Context, ts []target, look func(target) bool) []bowline.Inspection {
	places := make([]bowline.Place, len(ts))
	for i, t := range ts {
		places[i] = t.place(nil)
		if t.isNetwork() || in.tooEarly(t) || look != nil && !look(t) {
			continue
		}
		if sandbox := openSandbox(t.record); sandbox != nil {
			defer sandbox.Close()
			places[i] = t.place(sandbox)
		}
	}
	all := in.driver.Diff(ctx, places)
	for i, t := range ts {
		if all[i].Err != nil || t.isNetwork() || look != nil && !look(t) {
			continue
		}
		found, err := in.inside(ctx, t, all[i].Attachment, lookOnly)
		all[i].Found, all[i].Err = append(all[i].Found, found...), err
	}
	return all
}

// tooEarly reports whether Docker, or what waits for it, may still be at work in
// the target's sandbox, and has it looked at afterwards.
func (in *inspector) tooEarly(t target) bool {
	ready := t.record.Created.Add(settled)
	if t.docker == nil || !time.Now().Before(ready) {
		return false
	}
	in.lookAgain(ready)
	return true
}

// repair makes right what differs at the targets, which are held.
func (in *inspector) repair(ctx context.Context, ts []target) []bowline.Inspection {
	places := make([]bowline.Place, len(ts))
	dress := make([]dressing, len(ts))
	for i, t := range ts {
		if dress[i] = dressIt; t.isNetwork() {
			places[i] = t.place(nil)
			continue
		}
		sandbox, err := netns.Open(t.record.Sandbox)
		if err != nil { // it ended just now
			places[i] = t.place(nil)
			continue
		}
		defer sandbox.Close()
		places[i] = t.place(sandbox)
		if t.docker != nil {
			var there bool
			if places[i].Endpoint.IfName, there, err = dockerLink(ctx, sandbox, t); err == nil && !there && gone(ctx, t) {
				dress[i] = dressNew
			}
		}
	}
	all := in.driver.Repair(ctx, places)
	for i, t := range ts {
		if all[i].Err != nil || t.isNetwork() || all[i].Attachment.Link == "" {
			continue
		}
		found, err := in.inside(ctx, t, all[i].Attachment, dress[i])
		all[i].Found, all[i].Err = append(all[i].Found, found...), err
	}
	return all
}

// dressing says what to do about a sandbox that differs.
type dressing int

const (
	lookOnly dressing = iota
	dressIt
	dressNew // its link was made again: Docker has no hand in it
)

// gone reports whether the endpoint's link in the host is gone, if it has one.
func gone(ctx context.Context, t target) bool {
	if t.record.Link == "" {
		return true
	}
	h, err := link.Open(nil)
	if err != nil {
		return false
	}
	defer h.Close()
	_, err = h.Get(ctx, t.record.Link)
	return errors.Is(err, bowline.ErrUnknown)
}

// inside returns what differs in the endpoint's sandbox, and makes it right if
// that is asked for.
func (in *inspector) inside(ctx context.Context, t target, a bowline.Attachment, do dressing) ([]bowline.Difference, error) {
	if a.Link == "" {
		return nil, nil
	}
	sandbox, err := netns.Open(t.record.Sandbox)
	if err != nil {
		return nil, err
	}
	defer sandbox.Close()
	if id, err := sandbox.ID(); err != nil || t.record.NetnsIno != 0 && id.Ino != t.record.NetnsIno {
		return nil, err // another one by now
	}
	a.Link = t.record.IfName
	routes := cni.RoutesOf(t.record, a)
	if do != dressNew && in.tooEarly(t) {
		return nil, nil
	}
	if t.docker != nil {
		if a.Link, _, err = dockerLink(ctx, sandbox, t); err != nil {
			return nil, err
		}
		if routes, err = dockerRoutes(ctx, sandbox, a); err != nil {
			return nil, err
		}
	}
	found, err := cni.DiffSandbox(ctx, sandbox, a, routes)
	if err != nil || len(found) == 0 || do == lookOnly {
		return found, err
	}
	if err := cni.Dress(ctx, sandbox, a, routes); errors.Is(err, bowline.ErrUnknown) {
		return found, bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("the container's link %s is gone, or has another name: attach the container again", a.Link))
	} else if err != nil {
		return found, err
	}
	return found, nil
}

// dockerLink returns the name of the endpoint's link, which dockerd gave it, or
// the name that it would give to a new one; there says which of the two.
func dockerLink(ctx context.Context, sandbox *netns.Handle, t target) (name string, there bool, err error) {
	h, err := link.Open(sandbox)
	if err != nil {
		return "", false, err
	}
	defer h.Close()
	links, err := h.Links(ctx)
	if err != nil {
		return "", false, err
	}
	mac, err := net.ParseMAC(t.record.MAC)
	if err != nil {
		return "", false, err
	}
	taken := map[string]bool{}
	for _, l := range links {
		if slices.Equal(l.MAC, mac) {
			return l.Name, true, nil
		}
		taken[l.Name] = true
	}
	for i := 0; ; i++ {
		if name = fmt.Sprint(t.docker.Prefix, i); !taken[name] {
			return name, false, nil
		}
	}
}

// dockerRoutes are those that dockerd gave the sandbox for the attachment. Of a
// container's networks one has the default routes, and which that is dockerd
// does not tell: it is this one unless another link has one.
func dockerRoutes(ctx context.Context, sandbox *netns.Handle, a bowline.Attachment) ([]bowline.Route, error) {
	h, err := link.Open(sandbox)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	own, err := h.Get(ctx, a.Link)
	if err != nil && !errors.Is(err, bowline.ErrUnknown) {
		return nil, err
	}
	for _, v6 := range []bool{false, true} {
		all, err := h.Routes(ctx, v6)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(e link.Entry) bool { return e.Dst.Bits() == 0 && e.Index != own.Index }) {
			return a.Routes, nil
		}
	}
	return append(cni.DefaultRoutes(a), a.Routes...), nil
}
