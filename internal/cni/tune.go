package cni

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/undo"
)

// ownKeys are the keys that args.cni may have for one container, those of the
// reference tuning plugin. Its mac is read with the other ways to ask for one.
func ownKeys() []string { return []string{"sysctl", "promisc", "mtu", "allmulti", "txQLen"} }

// ownOptions returns what args.cni asks of the driver for one container.
func ownOptions(d document) map[string]string {
	args := d.in("args").in("cni")
	var own map[string]string
	for _, k := range ownKeys() {
		if args.has(k) {
			if own == nil {
				own = map[string]string{}
			}
			own[k] = text(args.all[k])
		}
	}
	return own
}

// sameValue compares values of a setting: the kernel writes the parts of one with
// several as it likes.
func sameValue(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }

// ofLink reports whether the setting is the link's, and ends with it.
func ofLink(key string) bool { return strings.Contains(key, "IFNAME") }

// inOrder returns the keys in the order to set them: those of the link come
// last, for some of the sandbox's change those of all links.
func inOrder(sysctls map[string]string) []string {
	keys := slices.Sorted(maps.Keys(sysctls))
	slices.SortStableFunc(keys, func(a, b string) int {
		switch {
		case ofLink(a) == ofLink(b):
			return 0
		case ofLink(b):
			return -1
		}
		return 1
	})
	return keys
}

// remember records what the settings of the sandbox are that a changes, before
// they are changed, and restores them if the ADD fails.
func (o op) remember(ctx context.Context, u *undo.Stack, sandbox *netns.Handle, r *state.Endpoint, n bowline.NetworkConfig, e bowline.EndpointSpec, a bowline.Attachment) error {
	keys := slices.DeleteFunc(inOrder(a.Sysctls), ofLink)
	if len(keys) == 0 {
		return nil
	}
	h, err := openLinks(ctx, sandbox)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, k := range keys {
		key := link.SysctlPath(k, a.Link)
		was, err := h.Sysctl(ctx, key)
		if err != nil {
			return err
		}
		r.Sysctls = append(r.Sysctls, state.Sysctl{Key: key, Was: was, Is: a.Sysctls[k]})
	}
	if err := o.record(ctx, *r, n, e); err != nil {
		return err
	}
	made := *r
	u.Push("restore settings of the sandbox", func(ctx context.Context) error { return o.restore(ctx, sandbox, made) })
	return nil
}

// restoreIn restores the settings if the sandbox is the one that they are of. It
// must not keep the attachment from ending, so what fails is logged.
func (o op) restoreIn(ctx context.Context, path string, r state.Endpoint) {
	if len(r.Sysctls) == 0 {
		return
	}
	sandbox, err := netns.Open(first(path, r.Sandbox))
	if err != nil { // it is gone, and its settings with it
		return
	}
	defer sandbox.Close()
	if id, err := sandbox.ID(); err != nil || id.Ino != r.NetnsIno || r.BootID != state.BootID() {
		return
	}
	if err := o.restore(ctx, sandbox, r); err != nil {
		slog.WarnContext(ctx, "settings of the sandbox not restored", "network", r.Network, "container", r.Container, "error", err)
	}
}

// restore gives the settings back what they were, in reverse, unless somebody
// changed them since, or another attachment of the container asks for them too.
func (o op) restore(ctx context.Context, sandbox *netns.Handle, r state.Endpoint) error {
	wanted := map[string]bool{}
	all, err := o.endpoints.All(ctx)
	for _, other := range all {
		for _, s := range other.Sysctls {
			if other.Container == r.Container && (other.ID != r.ID || other.Network != r.Network) {
				wanted[s.Key] = true
			}
		}
	}
	var damaged *state.DamagedError
	if errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) { // said where it matters
		err = nil
	}
	errs := []error{err}
	h, err := openLinks(ctx, sandbox)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer h.Close()
	for _, s := range slices.Backward(r.Sysctls) {
		is, err := h.Sysctl(ctx, s.Key)
		if errors.Is(err, bowline.ErrNoKernel) { // gone, with its link perhaps
			continue
		}
		if err == nil && !wanted[s.Key] && sameValue(is, s.Is) {
			_, err = h.SetSysctl(ctx, s.Key, s.Was)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
