package main

import (
	"context"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
)

var _ bowline.Watcher = (*driver)(nil)

// Watch implements [bowline.Watcher]. What happens in a sandbox is told by the ID
// that it got when its link was made.
func (d *driver) Watch(ctx context.Context, ready func(), changed func(bowline.Event)) error {
	links, err := d.host.MonitorPeers()
	if err != nil {
		return err
	}
	rules, err := d.rules.MonitorAll()
	if err != nil {
		links.Close()
		return err
	}
	ready()
	return endpoint.Watch(ctx, links, rules, changed)
}
