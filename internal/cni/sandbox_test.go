package cni

import (
	"fmt"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestTuning makes a link as asked, changes what was asked for, and dresses it
// again.
func TestTuning(t *testing.T) {
	t.Parallel()
	host, sandbox := netnstest.New(t), netnstest.New(t)
	h, err := link.Open(host)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	a := bowline.Attachment{Link: "eth0", Tuning: bowline.Tuning{Promisc: new(true), AllMulti: new(false), TxQLen: new(12)}}
	if err := h.CreateVeth(t.Context(), link.Veth{Name: "outer", Peer: "eth0", PeerNS: sandbox, Tuning: a.Tuning}); err != nil {
		t.Fatal(err)
	}
	differs := func(when, want string) {
		t.Helper()
		if ds, err := DiffSandbox(t.Context(), sandbox, a, nil); err != nil || fmt.Sprint(ds) != want {
			t.Errorf("%s: %v, %v; want %s", when, ds, err, want)
		}
	}
	const down = "link eth0 of the sandbox has state down, want up"
	differs("as it was made", "["+down+"]")
	netnstest.Command(t, sandbox, "ip", "link", "set", "eth0", "promisc", "off", "allmulticast", "on", "txqueuelen", "13")
	differs("changed", "[link eth0 of the sandbox has promisc false, want true link eth0 of the sandbox has allmulti true, want false "+
		"link eth0 of the sandbox has txQLen 13, want 12 "+down+"]")
	if err := Dress(t.Context(), sandbox, a, nil); err != nil {
		t.Fatal(err)
	}
	differs("dressed again", "[]")

	// What was not asked for is left alone.
	netnstest.Command(t, sandbox, "ip", "link", "set", "eth0", "allmulticast", "on", "txqueuelen", "13")
	a.Tuning = bowline.Tuning{Promisc: a.Tuning.Promisc}
	if err := Dress(t.Context(), sandbox, a, nil); err != nil {
		t.Fatal(err)
	}
	differs("only promisc asked for", "[]")
	a.Tuning = bowline.Tuning{AllMulti: new(true), TxQLen: new(13)}
	differs("the rest", "[]")
}
