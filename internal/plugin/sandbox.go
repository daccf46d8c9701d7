package plugin

import (
	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// specOf returns the endpoint as its driver made it, with its sandbox if that
// lives, and what closes that.
func specOf(r state.Endpoint) (bowline.EndpointSpec, func()) {
	e := r.Spec()
	sandbox := openSandbox(r)
	if sandbox == nil {
		return e, func() {}
	}
	e.Sandbox = sandbox
	return e, func() { sandbox.Close() }
}

// openSandbox opens the endpoint's sandbox, nil if it is gone. What Docker joined
// has no inode if nothing was there yet: the path is of that sandbox only.
func openSandbox(r state.Endpoint) *netns.Handle {
	if r.BootID != state.BootID() {
		return nil
	}
	if r.Face == "cnm" && r.NetnsIno == 0 && r.Sandbox != "" {
		h, err := netns.Open(r.Sandbox)
		if err != nil {
			return nil
		}
		return h
	}
	return netns.OpenIno(r.Sandbox, r.NetnsIno)
}
