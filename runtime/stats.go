package runtime

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/bowline-net/bowline"
)

// A Stat is what passed one attachment since it was made.
type Stat struct {
	Driver    string `json:"driver"`
	Network   string `json:"network"`
	Container string `json:"container"` // the sandbox, where it is ours
	Interface string `json:"interface"`
	Engine    string `json:"engine"` // "bowline", "cni" (another CNI runtime) or "docker"
	ID        string `json:"id"`     // of the endpoint, unique within driver and network
	Link      string `json:"link"`   // host end
	bowline.Counts
}

// Stats asks all plugins of ours what passed their attachments. It is sorted by
// network, then container. Errors of some plugins, and of damaged records, come
// beside what the others answer.
func (r *Runtime) Stats(ctx context.Context) ([]Stat, error) {
	answers, err := Ask[Stat](ctx, r, Verb{Name: "stats"})
	attached, aerr := r.Attachments(ctx)
	type key struct{ network, id string }
	sandboxes := map[key]string{}
	for _, a := range attached {
		sandboxes[key{a.Network, a.ContainerID + "/" + a.IfName}] = a.Sandbox
	}
	var rows []Stat
	for _, a := range answers {
		row := a.Row
		if s, ours := sandboxes[key{row.Network, row.ID}]; ours {
			row.Container, row.Engine = s, "bowline"
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Stat) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Interface, b.Interface))
	})
	return rows, errors.Join(err, aerr)
}

// A Pool says how much of one set of ranges of a network is taken.
type Pool struct {
	Network string `json:"network"`
	Ranges  string `json:"ranges"` // such as 10.1.0.2-10.1.0.254
	Used    uint64 `json:"used"`
	Free    uint64 `json:"free"`    // resting ones among them
	Resting uint64 `json:"resting"` // released lately

	Quarantined uint64 `json:"quarantined,omitempty"` // neither used nor free, for others use them
}

// Pools asks our allocator how many addresses of each network are taken.
func (r *Runtime) Pools(ctx context.Context) ([]Pool, error) {
	answers, err := Ask[Pool](ctx, r, Verb{Name: "pools"})
	var rows []Pool
	for _, a := range answers {
		rows = append(rows, a.Row)
	}
	return rows, err
}
