package state

import "testing"

func TestHold(t *testing.T) {
	t.Parallel()
	a, b := Endpoints{Store{Dir: t.TempDir()}}, Endpoints{}
	b.store = a.store // as another process has it
	release := a.Hold("bridge", "web", "c1/eth0")
	if _, ok := b.TryHold("bridge", "web", "c1/eth0"); ok {
		t.Error("two hold the same endpoint")
	}
	other, ok := b.TryHold("bridge", "web", "c2/eth0")
	if !ok {
		t.Fatal("an endpoint keeps another from being held")
	}
	other()
	waits := make(chan func())
	go func() { waits <- b.Hold("bridge", "web", "c1/eth0") }()
	select {
	case <-waits:
		t.Error("Hold does not wait")
	default:
	}
	release()
	(<-waits)()
	again, ok := a.TryHold("bridge", "web", "c1/eth0")
	if !ok {
		t.Fatal("a released endpoint cannot be held")
	}
	again()
	if names, err := a.store.List(t.Context(), ""); err != nil || len(names) != 0 {
		t.Errorf("holds look like records: %v, %v", names, err)
	}
}
