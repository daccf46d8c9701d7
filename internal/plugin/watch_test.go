package plugin

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/state"
)

// harmed is a driver of one endpoint, which differs until it is repaired.
type harmed struct {
	bowline.Driver
	is       atomic.Bool
	events   chan bowline.Event
	looked   chan bool // has room for one
	repaired chan bool
}

func (d *harmed) Diff(_ context.Context, places []bowline.Place) []bowline.Inspection {
	all := make([]bowline.Inspection, len(places))
	for i, p := range places {
		if p.Endpoint.Sandbox != nil && d.is.Load() {
			all[i].Found = []bowline.Difference{{Place: "sandbox", Key: "state", Want: "up", Have: "down"}}
		}
	}
	select {
	case d.looked <- true:
	default:
	}
	return all
}

func (d *harmed) Repair(_ context.Context, places []bowline.Place) []bowline.Inspection {
	if len(places) > 0 && d.is.Swap(false) {
		close(d.repaired)
	}
	return make([]bowline.Inspection, len(places))
}

func (d *harmed) Watch(ctx context.Context, ready func(), changed func(bowline.Event)) error {
	ready()
	for {
		select {
		case e := <-d.events:
			changed(e)
		case <-ctx.Done():
			return nil
		}
	}
}

// TestWatchLooksAgain: what somebody else held when it differed is repaired once
// they let go, whatever happens in other sandboxes meanwhile.
func TestWatchLooksAgain(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	box := netnstest.New(t)
	id, err := box.ID()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	records := state.OpenEndpoints()
	r := state.Endpoint{
		Driver: "lan", Face: "cni", Network: "web", ID: "a/eth0", Container: "a", IfName: "eth0",
		Sandbox: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), box.Fd()), NetnsIno: id.Ino, BootID: state.BootID(), Ready: true,
	}
	if err := records.Put(ctx, r); err != nil {
		t.Fatal(err)
	}
	d := &harmed{events: make(chan bowline.Event), looked: make(chan bool, 1), repaired: make(chan bool)}
	in, err := Spec{Name: "lan"}.inspectorOf(d)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- in.watch(ctx, func([]Finding, error) {}) }()
	<-d.looked
	release := records.Hold("lan", "web", "a/eth0")
	d.is.Store(true)
	d.events <- bowline.Event{Sandbox: -1, All: true}
	<-d.looked
	d.events <- bowline.Event{Sandbox: 1 << 20} // of another one
	<-d.looked
	release()
	select {
	case <-d.repaired:
	case <-time.After(20 * time.Second):
		t.Error("what was held when it differed was never repaired")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("watch: %v", err)
	}
}
