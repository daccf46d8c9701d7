package main

import (
	"context"

	"github.com/bowline-net/bowline"
)

var _ bowline.Watcher = (*driver)(nil)

// Watch implements [bowline.Watcher]. What happens in a sandbox is told by the ID
// that it got when its link was made.
func (d *driver) Watch(ctx context.Context, ready func(), changed func(bowline.Event)) error {
	links, err := d.host.Monitor()
	if err != nil {
		return err
	}
	defer links.Close()
	ready()
	return links.Run(ctx, changed)
}
