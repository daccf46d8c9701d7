package runtime

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// An Endpoint says who is attached where, whichever engine did it.
type Endpoint struct {
	Network   string         `json:"network"`
	Driver    string         `json:"driver"` // of ours, or the executable of another's plugin
	Engine    string         `json:"engine"` // "bowline", "cni" (another CNI runtime) or "docker"
	Container string         `json:"container"`
	IfName    string         `json:"ifname,omitempty"`
	Addrs     []netip.Prefix `json:"addrs"`
	// Ports are what is published. Docker does not tell them of drivers that
	// are not its own: docker ps shows none.
	Ports   []bowline.PortMapping `json:"ports,omitempty"`
	MAC     string                `json:"mac,omitempty"`
	Link    string                `json:"link,omitempty"` // host end
	Sandbox string                `json:"sandbox,omitempty"`
	Ready   bool                  `json:"ready"`
}

// Endpoints returns all endpoints of this host: the records of our plugins, and
// our own attachments through plugins of others, which keep no records. It is
// sorted by network, then container.
func (r *Runtime) Endpoints(ctx context.Context) ([]Endpoint, error) {
	records, err := r.endpoints.All(ctx)
	if err != nil && !r.reported(err) {
		return nil, err
	}
	attached, err := r.Attachments(ctx)
	if err != nil {
		return nil, err
	}
	type key struct{ network, container, ifname string }
	ours := map[key]Attachment{}
	for _, a := range attached {
		ours[key{a.Network, a.ContainerID, a.IfName}] = a
	}
	var found []Endpoint
	for _, e := range records {
		row := Endpoint{
			Network: e.Network, Driver: e.Driver, Engine: e.Face, Container: cmp.Or(e.Name, e.Container, e.ID),
			IfName: e.IfName, Addrs: e.Addrs, Ports: e.Ports, MAC: e.MAC, Link: e.Link, Sandbox: e.Sandbox, Ready: e.Ready,
		}
		if e.Face == "cnm" {
			row.Engine = "docker"
		}
		k := key{e.Network, e.Container, e.IfName}
		if a, own := ours[k]; own {
			row.Engine, row.Container = "bowline", a.Sandbox
			delete(ours, k)
		}
		found = append(found, row)
	}
	for _, a := range ours {
		found = append(found, Endpoint{
			Network: a.Network, Driver: a.Plugin, Engine: "bowline", Container: a.Sandbox,
			IfName: a.IfName, Addrs: a.Addrs, Ports: a.Ports, MAC: a.MAC, Sandbox: a.Netns, Ready: a.Ready,
		})
	}
	slices.SortFunc(found, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.IfName, b.IfName))
	})
	return found, nil
}

// Attachments returns the attachments of all sandboxes.
func (r *Runtime) Attachments(ctx context.Context) ([]Attachment, error) {
	dirs, err := r.attachments.Dirs(ctx, "")
	if err != nil {
		return nil, err
	}
	var found []Attachment
	for _, dir := range dirs {
		some, err := all[Attachment](ctx, r, r.attachments, dir)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// attachmentsOf returns the attachments of one sandbox, newest first: that is
// the order in which to undo them.
func (r *Runtime) attachmentsOf(ctx context.Context, containerID string) ([]Attachment, error) {
	found, err := all[Attachment](ctx, r, r.attachments, state.Key(containerID))
	slices.SortFunc(found, func(a, b Attachment) int { return b.Created.Compare(a.Created) })
	return found, err
}

// attachedTo returns the attachments to one network.
func (r *Runtime) attachedTo(ctx context.Context, network string) ([]Attachment, error) {
	found, err := r.Attachments(ctx)
	return slices.DeleteFunc(found, func(a Attachment) bool { return a.Network != network }), err
}

func isUnknown(err error) bool { return errors.Is(err, bowline.ErrUnknown) }
