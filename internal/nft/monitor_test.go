package nft_test

import (
	"context"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

// TestMonitorSandboxes: what somebody does to our table in a sandbox is told,
// with the sandbox; what is none of our business is not.
func TestMonitorSandboxes(t *testing.T) {
	t.Parallel()
	l := newLAN(t) // the host has an ID of outside, for its link leads there
	h, s := nft.Open(l.host), nft.OpenSandbox(l.outside)
	defer h.Close()
	defer s.Close()
	e := nft.Endpoint{ID: "o/eth0", Port: "eth0", Policy: policy(t, "deny ingress tcp 443")}
	if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
		t.Fatal(err)
	}
	m, err := h.MonitorAll()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told, ended := make(chan int, 100), make(chan error, 1)
	go func() { ended <- m.RunAll(ctx, func(sandbox int, _ bool) { told <- sandbox }) }()
	next := func(after string) int {
		t.Helper()
		select {
		case sandbox := <-told:
			return sandbox
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing was told of %q", after)
			return 0
		}
	}
	outside := -1
	for _, tt := range []struct {
		what, command string
		in            *netns.Handle
	}{
		{"a rule before ours", "insert rule netdev bowline ingress-eth0 accept", l.outside},
		{"an element", "flush map netdev bowline policy-to", l.outside},
		{"all", "flush ruleset", l.outside},
		{"a table of the host", "add table ip x", l.host},
	} {
		// A table of the container's own is not told: what comes first is the next.
		netnstest.Command(t, l.outside, "nft", "add table ip x; add chain ip x y; delete table ip x")
		netnstest.Command(t, tt.in, "nft", tt.command)
		got := next(tt.what)
		switch {
		case tt.in == l.host && got != -1, tt.in != l.host && (got < 0 || outside >= 0 && got != outside):
			t.Errorf("%s was told of sandbox %d", tt.what, got)
		case tt.in != l.host:
			outside = got
		}
	}
	select {
	case sandbox := <-told:
		t.Errorf("one too many, of sandbox %d", sandbox)
	default:
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("RunAll: %v", err)
	}
}
