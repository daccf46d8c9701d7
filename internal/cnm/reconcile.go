package cnm

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// sweepEvery is how often endpoints are looked for that dockerd will never tell
// us to delete: it was killed, and at its next start it calls only plugins that
// it has loaded by then.
const sweepEvery = time.Minute

// joinWithin is how long we watch an endpoint that no sandbox joins before it is
// taken for forgotten. dockerd joins within seconds. It is measured from when
// this process first saw the endpoint so, by a clock that nobody can set: many
// machines learn the time of day a while after they have booted, and an endpoint
// that is seconds old must not become one of ten minutes then.
const joinWithin = 10 * time.Minute

// restore brings the kernel back to what the records say: the networks of a
// host that has booted, and nothing of endpoints that are gone. What fails is
// logged and stays for the next time, so that one bad network keeps no other
// from working.
func (d *NetworkDriver) restore(ctx context.Context) {
	ns, err := d.networks.All(ctx)
	if err != nil {
		d.log.Warn("network records unreadable", "error", err)
	}
	for _, n := range ns {
		if err := d.restoreNetwork(ctx, n.ID); err != nil {
			d.log.Warn("network not restored", "network", n.ID, "error", err)
		}
	}
	d.sweep(ctx)
	d.republish(ctx)
}

func (d *NetworkDriver) restoreNetwork(ctx context.Context, id string) error {
	unlock, err := d.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := d.networks.Get(ctx, id) // again, now that nobody else changes it
	if err != nil {
		return err
	}
	if !n.Ready { // we were killed while making it, so dockerd has no such network
		return d.removeNetwork(ctx, n)
	}
	return d.Driver.CreateNetwork(ctx, n.Config())
}

// sweep removes the endpoints whose container is gone.
func (d *NetworkDriver) sweep(ctx context.Context) {
	all, err := d.endpoints.All(ctx)
	if err != nil {
		d.log.Warn("endpoint records unreadable", "error", err)
	}
	there := map[string]bool{}
	for _, e := range all {
		if e.Driver != d.Name || e.Face != face {
			continue
		}
		there[e.Network+"/"+e.ID] = true
		if why, err := d.sweepEndpoint(ctx, e.Network, e.ID); err != nil {
			d.log.Warn("endpoint not swept", "network", e.Network, "endpoint", e.ID, "error", err)
		} else if why != "" {
			d.log.Info("endpoint swept", "network", e.Network, "endpoint", e.ID, "why", why)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.unjoined, func(key string, _ time.Time) bool { return !there[key] })
}

// sweepEndpoint removes the endpoint if it is dead, and then says why.
func (d *NetworkDriver) sweepEndpoint(ctx context.Context, network, id string) (why string, err error) {
	unlock, err := d.locks.lock(ctx, network)
	if err != nil {
		return "", err
	}
	defer unlock()
	e, err := d.endpoints.Get(ctx, d.Name, network, id)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if why, err = d.dead(e, d.unjoinedFor(e)); err != nil || why == "" {
		return "", err
	}
	return why, d.removeEndpoint(ctx, d.network(ctx, network, e), e)
}

// unjoinedFor returns for how long we have known that no sandbox has joined e.
func (d *NetworkDriver) unjoinedFor(e state.Endpoint) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := e.Network + "/" + e.ID
	since, known := d.unjoined[key]
	switch {
	case e.Sandbox != "":
		delete(d.unjoined, key)
		return 0
	case !known:
		since = time.Now()
		d.unjoined[key] = since
	}
	return time.Since(since)
}

// dead says why nobody can be using e any more, or "" if somebody may be.
// A plugin that was killed finds its containers running: they are not dead.
func (d *NetworkDriver) dead(e state.Endpoint, unjoined time.Duration) (why string, err error) {
	switch {
	case e.BootID != state.BootID():
		return "the host has booted since", nil
	case !e.Ready:
		return "it was never completed", nil
	case unjoined > joinWithin:
		return "no sandbox has joined it", nil
	case e.Link != "":
		there, err := d.LinkExists(e.Link)
		if err != nil || there || Alive(e) { // of one that lives the link can be made again
			return "", err
		}
		return "its link " + e.Link + " is gone", nil
	case e.Sandbox != "" && e.NetnsIno != 0 && !Alive(e):
		return "its sandbox is gone", nil
	}
	return "", nil
}

// Alive reports whether the sandbox that the endpoint joined is still there. Its
// path is of that one only, and when dockerd joins an endpoint there is often
// nothing there yet: then the inode is not known.
func Alive(e state.Endpoint) bool {
	id, ok := netns.Stat(e.Sandbox)
	return ok && (e.NetnsIno == 0 || id.Ino == e.NetnsIno)
}
