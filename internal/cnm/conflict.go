package cnm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/ipam"
)

// probeFor is how long others are asked whether they have an address, as in the
// CNI face.
const probeFor = 100 * time.Millisecond

// probe returns an error that wraps [bowline.ErrConflict] if another host on the
// L2 has an address of the attachment. dockerd has chosen it and takes no other
// one, but if it asked our IPAM the next container gets another.
func (d *NetworkDriver) probe(ctx context.Context, n Network, att bowline.Attachment) error {
	if !att.Shared || att.Down || len(att.Addrs) == 0 {
		return nil
	}
	used, err := d.ofHost(ctx, n, att)
	if err == nil && len(used) == 0 {
		used, err = conflicts(ctx, att)
	}
	if err != nil || len(used) == 0 {
		return err
	}
	var texts []string
	then := ""
	for _, c := range used {
		d.log.WarnContext(ctx, "address is in use by another host", "address", c.Addr, "mac", c.MAC.String())
		ours, err := ipam.OpenPools().Quarantine(ctx, c)
		if err != nil {
			d.log.WarnContext(ctx, "address not put into quarantine", "address", c.Addr, "error", err)
		} else if ours {
			then = fmt.Sprintf("; bowline's pools leave it alone for %v, so the next container gets another one", ipam.DefaultQuarantine)
		}
		texts = append(texts, "address "+c.String())
	}
	return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %.12s: %s%s", n.ID, strings.Join(texts, ", "), then))
}

// ofHost returns which of the attachment's addresses the host itself has there.
func (d *NetworkDriver) ofHost(ctx context.Context, n Network, att bowline.Attachment) (used []ipam.Conflict, err error) {
	r, ok := d.Driver.(bowline.Resident)
	if !ok {
		return nil, nil
	}
	own, err := r.HostAddrs(ctx, n.Config())
	for _, p := range att.Addrs {
		if mac, has := own[p.Addr()]; has {
			used = append(used, ipam.Conflict{Addr: p.Addr(), MAC: mac})
		}
	}
	return used, err
}

// conflicts asks on the attachment's link. It does so in a namespace that has
// nothing else: up in the host's, the link would make the host answer questions
// for its own addresses with the MAC that the container is to have. The link is
// back and down afterwards; if we are killed it goes with the namespace.
func conflicts(ctx context.Context, att bowline.Attachment) ([]ipam.Conflict, error) {
	apart, err := netns.New()
	if err != nil {
		return nil, err
	}
	defer apart.Close()
	host, err := link.Open(nil)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	inside, err := link.Open(apart)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	if err := host.Move(ctx, att.Link, apart); err != nil {
		return nil, err
	}
	used, err := ask(ctx, inside, att)
	return used, errors.Join(err, inside.Move(context.WithoutCancel(ctx), att.Link, nil))
}

func ask(ctx context.Context, h *link.Handle, att bowline.Attachment) (used []ipam.Conflict, err error) {
	if err := h.Set(ctx, att.Link, link.Change{Up: true}); err != nil {
		return nil, err
	}
	l, err := h.Get(ctx, att.Link)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, p := range att.Addrs {
		addrs = append(addrs, p.Addr())
	}
	found, err := h.ConflictsBeside(ctx, l, probeFor, att.Gateways, addrs...)
	for _, a := range addrs {
		if mac, ok := found[a]; ok {
			used = append(used, ipam.Conflict{Addr: a, MAC: mac})
		}
	}
	return used, err
}
