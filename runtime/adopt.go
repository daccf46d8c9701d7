package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// AdoptSandbox makes a sandbox of a namespace that somebody else made: a
// container's, as /proc/PID/ns/net, or one of "ip netns". It stays as it is, its
// loopback as well, and [Runtime.RemoveSandbox] detaches it and leaves it to its
// owner. The sandbox is gone when path holds another namespace or none.
//
// The error wraps [bowline.ErrConflict] if there is a sandbox of that name or of
// that namespace, and [bowline.ErrInvalid] if path holds no namespace, or that
// of the caller.
func (r *Runtime) AdoptSandbox(ctx context.Context, name, path string) (Sandbox, error) {
	var none Sandbox
	if err := checkName("sandbox", name); err != nil {
		return none, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return none, err
	}
	id, err := adoptable(path)
	if err != nil {
		return none, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
			"sandbox %q: %v; want a network namespace, such as /proc/PID/ns/net", name, err))
	}
	unlock, err := r.locks.exclusive(sandboxLock(name))
	if err != nil {
		return none, err
	}
	defer unlock()
	others, err := r.Sandboxes(ctx)
	if err != nil {
		return none, err
	}
	for _, o := range others {
		if o.NetnsID == id && o.Alive() {
			return none, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("sandbox %q: %s is sandbox %q already", name, path, o.Name))
		}
	}
	s := Sandbox{
		Name: name, ID: newContainerID(name), Path: path, NetnsID: id, Adopted: true,
		BootID: state.BootID(), Created: time.Now().UTC(),
	}
	err = r.sandboxes.Create(ctx, state.Key(name), s)
	if errors.Is(err, fs.ErrExist) {
		return none, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("sandbox %q exists already", name))
	}
	return s, err
}

// adoptable returns the identity of the namespace at path, which must not be
// where we are: a network on the host itself is no sandbox.
func adoptable(path string) (netns.ID, error) {
	h, err := netns.Open(path)
	if err != nil {
		return netns.ID{}, err
	}
	defer h.Close()
	here, err := netns.Current()
	if err != nil {
		return netns.ID{}, err
	}
	defer here.Close()
	id, err := h.ID()
	if err != nil {
		return netns.ID{}, err
	}
	ours, err := here.ID()
	if err == nil && id == ours {
		err = fmt.Errorf("%s is the host's own", path)
	}
	return id, err
}
