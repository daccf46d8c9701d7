package main

import (
	"context"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
)

var _ bowline.Watcher = (*driver)(nil)

// Watch implements [bowline.Watcher].
func (d *driver) Watch(ctx context.Context, ready func(), changed func(bowline.Event)) error {
	links, err := d.host.Monitor()
	if err != nil {
		return err
	}
	rules, err := d.rules.Monitor()
	if err != nil {
		links.Close()
		return err
	}
	ready()
	return endpoint.Watch(ctx, links, rules, changed)
}
