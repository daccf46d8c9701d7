package runtime

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// A Wanted says which attachments are meant.
type Wanted struct {
	// Container is a sandbox of ours, the name or ID of a container, the ID of
	// a Docker endpoint, an address, or the path of a namespace. Of IDs the
	// beginning will do, if only one begins so.
	Container string
	Network   string // empty: any
	IfName    string // empty: any
}

// leastID is how much of an ID is enough to mean it.
const leastID = 4

// find returns the records of the attachments through our plugins that w means,
// at least one. The error wraps [bowline.ErrUnknown] if there is none, and
// [bowline.ErrConflict] if w may mean several containers.
func (r *Runtime) find(ctx context.Context, w Wanted) ([]state.Endpoint, error) {
	records, err := r.endpoints.All(ctx)
	if err != nil && !r.reported(err) {
		return nil, err
	}
	id := ""
	if s, err := r.Sandbox(ctx, w.Container); err == nil {
		id = s.ID
	}
	var whole, begin []state.Endpoint
	for _, e := range records {
		switch {
		case !e.Ready || w.Network != "" && e.Network != w.Network || w.IfName != "" && e.IfName != w.IfName:
		case id != "":
			if e.Container == id {
				whole = append(whole, e)
			}
		case called(e, w.Container):
			whole = append(whole, e)
		case len(w.Container) >= leastID && strings.HasPrefix(cmp.Or(e.Container, e.ID), w.Container):
			begin = append(begin, e)
		}
	}
	if len(whole) == 0 {
		whole = begin
	}
	if len(whole) == 0 {
		return nil, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("%s is not attached%s: want a container that bowline ls shows", w.Container, w.where()))
	}
	for _, e := range whole[1:] {
		if first := whole[0]; first.Container != e.Container || e.Container == "" && first.Sandbox != e.Sandbox {
			return nil, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("%s may mean %s or %s", w.Container, cmp.Or(first.Container, first.ID), cmp.Or(e.Container, e.ID)))
		}
	}
	return whole, nil
}

func (w Wanted) where() string {
	text := ""
	if w.Network != "" {
		text = " to " + w.Network
	}
	if w.IfName != "" {
		text += " as " + w.IfName
	}
	return text
}

// called reports whether e is of a container that name names in full.
func called(e state.Endpoint, name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
	}
	return name != "" && (name == e.Container || name == e.Name || name == e.ID || name == e.Sandbox)
}
