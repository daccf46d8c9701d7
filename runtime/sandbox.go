package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/undo"
)

// A Sandbox is the record of a named network namespace.
type Sandbox struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`   // container ID that plugins see: never used twice
	Path    string    `json:"path"` // where the namespace is mounted
	NetnsID netns.ID  `json:"netnsID,omitzero"`
	Adopted bool      `json:"adopted,omitempty"` // the namespace is somebody else's
	Network string    `json:"network,omitempty"` // what is in it by itself: [NetworkNone] or [NetworkHost]; empty if adopted
	BootID  string    `json:"bootID"`
	Created time.Time `json:"created"`
}

// What a sandbox has before it is connected to anything.
const (
	NetworkNone = "none" // its loopback, which is up
	NetworkHost = "host" // all of the host's: it shares the host's own namespace
)

// Alive reports whether the sandbox's namespace is still the one that was made.
func (s Sandbox) Alive() bool {
	id, ok := netns.Stat(s.Path)
	return ok && id == s.NetnsID && s.BootID == state.BootID()
}

// CreateSandbox makes a namespace with nothing but its loopback, which is up,
// mounted at Path until [Runtime.RemoveSandbox]. The error wraps
// [bowline.ErrConflict] if there is a sandbox of that name.
func (r *Runtime) CreateSandbox(ctx context.Context, name string) (Sandbox, error) {
	return r.createSandbox(ctx, Sandbox{Name: name, Network: NetworkNone}, func(path string) (*netns.Handle, error) {
		h, err := netns.NewAt(path)
		if err != nil {
			return nil, err
		}
		if err := netns.Do(h, loopbackUp); err != nil {
			h.Close()
			return nil, errors.Join(err, netns.Remove(path))
		}
		return h, nil
	})
}

// ShareSandbox makes a sandbox that is the caller's own namespace, the host's,
// with all that is in it. It is mounted at Path, as others are, so that who
// starts a container need not know. Nothing can be connected to it, and nothing
// of the host goes with it.
func (r *Runtime) ShareSandbox(ctx context.Context, name string) (Sandbox, error) {
	return r.createSandbox(ctx, Sandbox{Name: name, Network: NetworkHost}, func(path string) (*netns.Handle, error) {
		h, err := netns.Current()
		if err != nil {
			return nil, err
		}
		if err := h.Pin(path); err != nil {
			h.Close()
			return nil, err
		}
		return h, nil
	})
}

// createSandbox makes the sandbox s, whose namespace make mounts at a path, or
// leaves nothing there.
func (r *Runtime) createSandbox(ctx context.Context, s Sandbox, make func(path string) (*netns.Handle, error)) (Sandbox, error) {
	var none Sandbox
	name := s.Name
	if err := checkName("sandbox", name); err != nil {
		return none, err
	}
	unlock, err := r.locks.exclusive(sandboxLock(name))
	if err != nil {
		return none, err
	}
	defer unlock()
	s.ID, s.Path = newContainerID(name), filepath.Join(r.netnsDir, name)
	s.BootID, s.Created = state.BootID(), time.Now().UTC()
	var u undo.Stack
	defer u.Rollback(ctx)
	err = r.sandboxes.Create(ctx, state.Key(name), s)
	if errors.Is(err, fs.ErrExist) {
		return none, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("sandbox %q exists already", name))
	}
	if err != nil {
		return none, err
	}
	u.Push("erase record of sandbox "+name, func(ctx context.Context) error {
		return r.sandboxes.Delete(ctx, state.Key(name))
	})
	h, err := make(s.Path)
	if errors.Is(err, fs.ErrExist) {
		return none, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
			"sandbox %q: %s exists already, without a record; \"bowline sandbox rm %s\" removes it", name, s.Path, name))
	}
	if err != nil {
		return none, fmt.Errorf("sandbox %q: %w", name, err)
	}
	defer h.Close()
	u.Push("remove namespace "+s.Path, func(context.Context) error { return netns.Remove(s.Path) })
	if s.NetnsID, err = h.ID(); err != nil {
		return none, err
	}
	if err := r.sandboxes.Put(ctx, state.Key(name), s); err != nil {
		return none, err
	}
	u.Commit()
	return s, nil
}

// newContainerID returns an ID that starts with name and is never given again.
func newContainerID(name string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return name + "-" + hex.EncodeToString(b[:])
}

// Sandbox returns the record of a sandbox. The error wraps [bowline.ErrUnknown]
// if there is none.
func (r *Runtime) Sandbox(ctx context.Context, name string) (Sandbox, error) {
	var s Sandbox
	err := r.sandboxes.Get(ctx, state.Key(name), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf(`no sandbox %q; "bowline sandbox ls" lists them`, name))
	}
	return s, err
}

// live is Sandbox, but an error that wraps [bowline.ErrUnknown] if the namespace
// is gone.
func (r *Runtime) live(ctx context.Context, name string) (Sandbox, error) {
	s, err := r.Sandbox(ctx, name)
	if err == nil && !s.Alive() {
		err = bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf(
			`sandbox %q: its namespace %s is gone; "bowline sandbox rm %s" clears it`, name, s.Path, name))
	}
	return s, err
}

// Sandboxes returns all sandboxes, by name.
func (r *Runtime) Sandboxes(ctx context.Context) ([]Sandbox, error) {
	return all[Sandbox](ctx, r, r.sandboxes, "")
}

// RemoveSandbox detaches the sandbox from all networks, unmounts its namespace
// unless that was adopted, which then lives as long as processes are in it, and
// erases its record. A namespace that is the host's own stays as it is. If a
// plugin fails to detach, everything stays for another try, unless force is set:
// then the sandbox goes all the same, and the error says what was left.
func (r *Runtime) RemoveSandbox(ctx context.Context, name string, force bool) error {
	unlock, err := r.locks.exclusive(sandboxLock(name))
	if err != nil {
		return err
	}
	defer unlock()
	s, err := r.Sandbox(ctx, name)
	var damaged *state.DamagedError
	switch {
	case err == nil:
	case (errors.Is(err, bowline.ErrUnknown) || errors.As(err, &damaged)) && checkName("sandbox", name) == nil && exists(r.netnsDir, name):
		return netns.Remove(filepath.Join(r.netnsDir, name)) // its record was lost
	default:
		return err
	}
	return r.removeSandbox(ctx, s, force)
}

// removeSandbox is RemoveSandbox for a caller that holds the sandbox's lock.
func (r *Runtime) removeSandbox(ctx context.Context, s Sandbox, force bool) error {
	attached, err := r.attachmentsOf(ctx, s.ID)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range attached {
		if err := r.detach(ctx, a, force); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil && !force {
		return err
	}
	if !s.Adopted {
		if err := netns.Remove(s.Path); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(append(errs, r.sandboxes.Delete(ctx, state.Key(s.Name)))...)
}

func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}
