package endpoint

import (
	"context"
	"sync"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
)

// Watch calls changed after each event of either monitor by which something may
// differ, one at a time, until ctx is done; that is no error. It closes both.
func Watch(ctx context.Context, links *link.Monitor, rules *nft.Monitor, changed func(bowline.Event)) error {
	defer links.Close()
	defer rules.Close()
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
		ended <- rules.RunAll(ctx, func(sandbox int, lost bool) { tell(bowline.Event{Sandbox: sandbox, All: lost}) })
	}()
	err := <-ended
	cancel()
	if other := <-ended; err == nil {
		err = other
	}
	return err
}
