package plugin

import (
	"context"
	"fmt"
	"time"

	"github.com/bowline-net/bowline"
)

// reclaimEvery is how often a process that watches looks for what sandboxes had
// that are gone: no event tells of the end of a namespace.
const reclaimEvery = time.Minute

// reclaim brings back what the driver has lent to sandboxes that are gone, if it
// lends anything, and returns what it brought back.
func (in *inspector) reclaim(ctx context.Context) ([]Finding, error) {
	l, ok := in.driver.(bowline.Lender)
	if !ok {
		return nil, nil
	}
	in.lookAgain(time.Now().Add(reclaimEvery))
	places, err := l.Reclaim(ctx)
	var fs []Finding
	for _, p := range places {
		fs = append(fs, Finding{
			Driver: in.Name, Network: p.Network.ID, ID: p.Endpoint.ID, Engine: "cni", Container: p.Endpoint.ID, Repaired: true,
			Difference: bowline.Difference{Place: "host", Key: "link " + p.Endpoint.IfName, Want: fmt.Sprintf("it back from %s, whose sandbox is gone", p.Endpoint.ID)},
		})
	}
	return fs, err
}
