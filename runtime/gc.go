package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// The kinds of things that [Runtime.GC] clears.
const (
	KindSandbox    = "sandbox"
	KindAttachment = "attachment"
	KindCache      = "cache"   // of libcni
	KindNetwork    = "network" // at every run: its plugins were asked
)

// A Cleared is one thing that [Runtime.GC] cleared, would clear or could not clear.
type Cleared struct {
	Kind  string `json:"kind"` // one of the Kind constants
	Name  string `json:"name"`
	Why   string `json:"why"`
	Error string `json:"error,omitempty"` // why it could not
}

// collector is one run of GC.
type collector struct {
	*Runtime
	dry  bool
	done []Cleared
	errs []error
}

// GC clears what kills, crashes and reboots left: sandboxes whose namespace is
// gone, attachments whose sandbox is gone or that were never finished, and
// whatever else the plugins of each network keep for neither (CNI 1.1.0, GC). It
// goes on after errors and returns them joined. With dry set it changes nothing,
// and plugins are not asked.
func (r *Runtime) GC(ctx context.Context, dry bool) ([]Cleared, error) {
	c := &collector{Runtime: r, dry: dry}
	for _, step := range []func(context.Context) error{
		c.sandboxesGone, c.attachmentsGone, c.cachesGone, c.networksAsked,
	} {
		if err := step(ctx); err != nil {
			c.errs = append(c.errs, err)
		}
	}
	if !dry {
		// No record takes a minute to write, ours or a plugin's.
		c.errs = append(c.errs, state.Run().Sweep("", time.Minute), state.Lib().Sweep("", time.Minute))
	}
	return c.done, errors.Join(c.errs...)
}

// clear does it, unless the run is dry, and notes the outcome.
func (c *collector) clear(kind, name, why string, do func() error) {
	item := Cleared{Kind: kind, Name: name, Why: why}
	if !c.dry {
		if err := do(); err != nil {
			item.Error = err.Error()
			c.errs = append(c.errs, fmt.Errorf("%s %s: %w", kind, name, err))
		}
	}
	c.done = append(c.done, item)
}

// sandboxesGone removes sandboxes whose namespace is gone or was never finished.
func (c *collector) sandboxesGone(ctx context.Context) error {
	all, err := c.Sandboxes(ctx)
	for _, s := range all {
		if s.Alive() {
			continue
		}
		unlock, lockErr := c.locks.exclusive(sandboxLock(s.Name))
		if lockErr != nil {
			return lockErr
		}
		// Again: with the lock held nobody is in the middle of making it.
		if s, err := c.Sandbox(ctx, s.Name); err == nil && !s.Alive() {
			c.clear(KindSandbox, s.Name, goneWhy(s), func() error { return c.removeSandbox(ctx, s, false) })
		}
		unlock()
	}
	return err
}

func goneWhy(s Sandbox) string {
	switch {
	case s.BootID != state.BootID():
		return "is of a previous boot"
	case s.NetnsID == netns.ID{}:
		return "was never finished"
	}
	return "its namespace is gone"
}

// attachmentsGone detaches what has no sandbox any more, or was never finished.
func (c *collector) attachmentsGone(ctx context.Context) error {
	all, err := c.Attachments(ctx)
	for _, a := range all {
		if c.attachmentWhy(ctx, a) == "" {
			continue
		}
		unlock, lockErr := c.locks.exclusive(sandboxLock(a.Sandbox))
		if lockErr != nil {
			return lockErr
		}
		var now Attachment
		if c.attachments.Get(ctx, a.record(), &now) == nil {
			// Of a sandbox that is gone, too, this was cleared, or would be, with it.
			if why := c.attachmentWhy(ctx, now); why != "" {
				c.clear(KindAttachment, a.Sandbox+"/"+a.IfName, why, func() error { return c.detach(ctx, now, false) })
			}
		}
		unlock()
	}
	return err
}

// attachmentWhy returns why a is to be cleared, or "".
func (c *collector) attachmentWhy(ctx context.Context, a Attachment) string {
	s, err := c.Sandbox(ctx, a.Sandbox)
	switch {
	case err == nil && s.ID == a.ContainerID && !a.Ready:
		return "was never finished"
	case err == nil && s.ID == a.ContainerID, err != nil && !isUnknown(err):
		return ""
	}
	return "its sandbox is gone"
}

// cachesGone calls DEL for results in libcni's cache that no attachment has.
func (c *collector) cachesGone(ctx context.Context) error {
	cached, err := c.cni.GetCachedAttachments("")
	for _, n := range cached {
		if err := c.cacheGone(ctx, n); err != nil {
			return err
		}
	}
	return err
}

func (c *collector) cacheGone(ctx context.Context, n *libcni.NetworkAttachment) error {
	// With the lock held nobody is in the middle of making the attachment.
	unlock, err := c.locks.exclusive(networkLock(n.Network))
	if err != nil {
		return err
	}
	defer unlock()
	a := Attachment{ContainerID: n.ContainerID, IfName: n.IfName}
	if err := c.attachments.Get(ctx, a.record(), new(Attachment)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	rt := &libcni.RuntimeConf{
		ContainerID: n.ContainerID, IfName: n.IfName, Args: n.CniArgs, CapabilityArgs: n.CapabilityArgs,
	}
	c.clear(KindCache, n.ContainerID+"/"+n.IfName, "has no attachment", func() error {
		list, err := parseConf(n.Config, n.Network)
		if err != nil {
			return err
		}
		return c.cni.DelNetworkList(ctx, list, rt)
	})
	return nil
}

// networksAsked tells the plugins of each network what is still valid.
func (c *collector) networksAsked(ctx context.Context) error {
	all, err := c.Networks(ctx)
	for _, n := range all {
		unlock, lockErr := c.locks.exclusive(networkLock(n.Name))
		if lockErr != nil {
			return lockErr
		}
		valid, validErr := c.valid(ctx, n.Name)
		if validErr != nil {
			unlock()
			return validErr // better no GC than one that removes too much
		}
		why := fmt.Sprintf("plugins keep %d valid attachments and drop the rest", len(valid))
		c.clear(KindNetwork, n.Name, why, func() error { return c.collect(ctx, n, valid) })
		unlock()
	}
	return err
}

// valid returns the attachments of a network that its plugins must keep: ours,
// finished or not, and those of other engines whose namespace lives.
func (r *Runtime) valid(ctx context.Context, network string) ([]types.GCAttachment, error) {
	attached, err := r.attachedTo(ctx, network)
	if err != nil {
		return nil, err
	}
	valid, err := r.foreign(ctx, network)
	if err != nil {
		return nil, err
	}
	for _, a := range attached {
		valid = append(valid, types.GCAttachment{ContainerID: a.ContainerID, IfName: a.IfName})
	}
	return valid, nil
}

// collect has the plugins of n drop all but the valid attachments. Plugins of
// CNI versions before 1.1.0 cannot, and are not asked.
func (r *Runtime) collect(ctx context.Context, n Network, valid []types.GCAttachment) error {
	list, err := n.list()
	if err != nil {
		return err
	}
	if valid == nil {
		valid = []types.GCAttachment{} // null would read as a missing key
	}
	return r.cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid})
}

// foreign returns the attachments that other engines made to a network of that
// name through the same plugins, as far as their namespaces live.
func (r *Runtime) foreign(ctx context.Context, network string) ([]types.GCAttachment, error) {
	all, err := r.endpoints.All(ctx)
	if err != nil && !r.reported(err) {
		return nil, err
	}
	var found []types.GCAttachment
	for _, e := range all {
		if e.Face != "cni" || e.Network != network || e.BootID != state.BootID() {
			continue
		}
		own := Attachment{ContainerID: e.Container, IfName: e.IfName}
		if r.attachments.Get(ctx, own.record(), new(Attachment)) == nil {
			continue
		}
		if id, ok := netns.Stat(e.Sandbox); ok && id.Ino == e.NetnsIno {
			found = append(found, types.GCAttachment{ContainerID: e.Container, IfName: e.IfName})
		}
	}
	return found, nil
}
