package state_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BOWLINE_RUN_DIR", dir)
	es := state.OpenEndpoints()
	r := state.Endpoint{Driver: "bridge", Network: "web", ID: "c1/eth0", Ready: true}
	if err := es.Replace(t.Context(), r); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Replace without a record: %v, want fs.ErrNotExist", err)
	}
	if err := es.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.Rates = bowline.Rates{IngressRate: 1e6}
	if err := es.Replace(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got, err := es.Get(t.Context(), "bridge", "web", "c1/eth0"); err != nil || got.Rates != r.Rates || !got.Ready {
		t.Errorf("record is %+v, %v", got, err)
	}
	if err := es.Delete(t.Context(), "bridge", "web", "c1/eth0"); err != nil {
		t.Fatal(err)
	}
	if err := es.Replace(t.Context(), r); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Replace after Delete: %v, want fs.ErrNotExist", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "endpoints", "*", "*"))
	temporary, _ := filepath.Glob(filepath.Join(dir, "endpoints", "*", ".*"))
	if err != nil || len(files)+len(temporary) > 0 {
		t.Errorf("left are %v %v, %v", files, temporary, err)
	}
}

func TestChanging(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	es := state.OpenEndpoints()
	first, err := es.Serving("bridge")
	if err != nil {
		t.Fatal(err)
	}
	second, err := es.Serving("bridge") // beside the first
	if err != nil {
		t.Fatal(err)
	}
	other, err := es.Changing("other")
	if err != nil {
		t.Fatal(err)
	}
	other()
	changing := make(chan error)
	go func() {
		unlock, err := es.Changing("bridge")
		if err == nil {
			unlock()
		}
		changing <- err
	}()
	first()
	select {
	case <-changing:
		t.Error("Changing did not wait for the second that serves")
	case <-time.After(50 * time.Millisecond):
	}
	second()
	if err := <-changing; err != nil {
		t.Error(err)
	}
}
