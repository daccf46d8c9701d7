package state

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A record that becomes Ready while it is looked for is there all the time.
func TestFinishedWhileRead(t *testing.T) {
	t.Parallel()
	e := Endpoints{Store{Dir: filepath.Join(t.TempDir(), "endpoints")}}
	r := Endpoint{Driver: "bridge", Network: "web", ID: "c1/eth0"}
	for range 300 {
		if err := e.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := e.Finish(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if rs, err := e.OfNetwork(t.Context(), r.Driver, r.Network); err != nil || len(rs) != 1 {
				t.Errorf("OfNetwork = %d records, %v; want 1", len(rs), err)
			}
		})
		wg.Go(func() {
			if _, err := e.Get(t.Context(), r.Driver, r.Network, r.ID); err != nil {
				t.Errorf("Get: %v", err)
			}
		})
		wg.Wait()
		if t.Failed() {
			return
		}
	}
}

// TestPutKeepsTheRecord: an update that fails at any step leaves a record.
func TestPutKeepsTheRecord(t *testing.T) {
	t.Parallel()
	e := Endpoints{Store{Dir: filepath.Join(t.TempDir(), "endpoints")}}
	r := Endpoint{Driver: "bridge", Network: "web", ID: "c1/eth0", Ready: true}
	if err := e.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		r.Link = fmt.Sprint("step", n)
		failed := e.Put(netnstest.FailAfter(t.Context(), n), r)
		got, err := e.Get(t.Context(), r.Driver, r.Network, r.ID)
		if err != nil || !got.Ready {
			t.Fatalf("Put failed at step %d: %v; the record is %+v, %v", n, failed, got, err)
		}
		if failed == nil {
			return
		}
	}
	t.Fatal("Put never succeeds")
}
