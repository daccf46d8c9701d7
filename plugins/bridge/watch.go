package main

import (
	"context"
	"sync"

	"github.com/bowline-net/bowline"
)

var _ bowline.Watcher = (*driver)(nil)

// Watch implements [bowline.Watcher].
func (d *driver) Watch(ctx context.Context, ready func(), changed func(bowline.Event)) error {
	links, err := d.host.Monitor()
	if err != nil {
		return err
	}
	defer links.Close()
	rules, err := d.rules.Monitor()
	if err != nil {
		return err
	}
	defer rules.Close()
	ready()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var one sync.Mutex
	tell := func(e bowline.Event) {
		one.Lock()
		defer one.Unlock()
		changed(e)
	}
	ended := make(chan error, 2)
	go func() { ended <- links.Run(ctx, tell) }()
	go func() {
		ended <- rules.Run(ctx, func(lost bool) { tell(bowline.Event{Sandbox: -1, All: lost}) })
	}()
	err = <-ended
	cancel()
	if other := <-ended; err == nil {
		err = other
	}
	return err
}
