package runtime

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/bowline-net/bowline"
)

// A Defect is something of an attachment or a network that is not as its plugin
// left it.
type Defect struct {
	Driver    string `json:"driver"`
	Network   string `json:"network"`
	Container string `json:"container,omitempty"` // empty: all of the network's; the sandbox, where it is ours
	Interface string `json:"interface,omitempty"`
	Engine    string `json:"engine"`       // "bowline", "cni" (another CNI runtime) or "docker"
	ID        string `json:"id,omitempty"` // of the endpoint
	bowline.Difference
	Repaired bool   `json:"repaired"`
	Error    string `json:"error,omitempty"` // why it was not, or what could not be told
}

// Text says what is wrong in a sentence.
func (d Defect) Text() string {
	switch {
	case d.Error == "":
		return d.Difference.String()
	case d.Difference == (bowline.Difference{}):
		return d.Error
	}
	return d.Difference.String() + ": " + d.Error
}

// Diff asks all plugins of ours what is not as they left it. It changes nothing.
// Errors of some plugins come beside what the others answer.
func (r *Runtime) Diff(ctx context.Context) ([]Defect, error) {
	return r.defects(ctx, Verb{Name: "diff"})
}

// Repair has them make it right, and returns what they found.
func (r *Runtime) Repair(ctx context.Context) ([]Defect, error) {
	return r.defects(ctx, Verb{Name: "repair"})
}

func (r *Runtime) defects(ctx context.Context, v Verb) ([]Defect, error) {
	answers, err := Ask[Defect](ctx, r, v)
	names, nerr := r.sandboxNames(ctx)
	var rows []Defect
	for _, a := range answers {
		rows = append(rows, names.of(a.Row))
	}
	slices.SortStableFunc(rows, func(a, b Defect) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Interface, b.Interface))
	})
	return rows, errors.Join(err, nerr)
}

// WatchAndRepair has the plugins repair whatever breaks until ctx is done, and
// calls f with what they found, never twice at once.
func (r *Runtime) WatchAndRepair(ctx context.Context, f func(Defect) error) error {
	return Follow(ctx, r, Verb{Name: "repair", Args: []string{"-watch"}}, func(a From[Defect]) error {
		names, err := r.sandboxNames(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		return f(names.of(a.Row))
	})
}

// sandboxNames are the names of our sandboxes by network and endpoint.
type sandboxNames map[[2]string]string

func (r *Runtime) sandboxNames(ctx context.Context) (sandboxNames, error) {
	attached, err := r.Attachments(ctx)
	names := sandboxNames{}
	for _, a := range attached {
		names[[2]string{a.Network, a.ContainerID + "/" + a.IfName}] = a.Sandbox
	}
	return names, err
}

func (n sandboxNames) of(d Defect) Defect {
	if s, ours := n[[2]string{d.Network, d.ID}]; ours {
		d.Container, d.Engine = s, "bowline"
	}
	return d
}
