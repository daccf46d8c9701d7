package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func inside(t *testing.T, box *netns.Handle) string {
	t.Helper()
	return netnstest.Command(t, box, "tc", "qdisc") + netnstest.Command(t, box, "nft", "list", "ruleset")
}

// Limits and policy are at the NIC in the sandbox, are told and repaired, and stay
// nowhere.
func TestLimitsAndPolicy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.state()
	box, _ := b.sandbox("one")
	empty := drivertest.Snapshot(t, box)
	n, e := network("device", "nic0"), endpointIn("one", box)
	var err error
	if e.Policy, err = bowline.ParsePolicy("test", "deny egress tcp 25"); err != nil {
		t.Fatal(err)
	}
	e.Rates = bowline.Rates{EgressRate: 4e6}
	b.attach(n, e)
	b.attach(n, e)
	if got := inside(t, box); !strings.Contains(got, "tbf") || !strings.Contains(got, "rate 4Mbit") || !strings.Contains(got, "25") {
		t.Errorf("inside there is\n%s", got)
	}
	whole := []bowline.Place{{Network: n}, {Network: n, Endpoint: e}}
	for name, harm := range map[string]string{
		"limit": "tc qdisc del dev eth0 root", "policy": "nft flush ruleset", "MTU": "", "gone home": "ip link set eth0 netns %s name nic0",
	} {
		if strings.Contains(harm, "%s") {
			harm = fmt.Sprintf(harm, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.ns.Fd()))
		}
		if harm != "" {
			netnstest.Command(t, box, strings.Fields(harm)...)
			if i := b.d.Diff(t.Context(), whole)[1]; i.Err != nil || len(i.Found) == 0 {
				t.Errorf("%s: Diff finds nothing, %v", name, i.Err)
			}
			if err := b.d.CheckEndpoint(t.Context(), n, e); !errors.Is(err, bowline.ErrDiffers) {
				t.Errorf("%s: CheckEndpoint: %v", name, err)
			}
			if i := b.d.Repair(t.Context(), whole)[1]; i.Err != nil || len(i.Found) == 0 || i.Attachment.Link != "eth0" {
				t.Errorf("%s: Repair: %+v", name, i)
			}
		}
		for _, i := range b.d.Diff(t.Context(), whole) {
			if i.Err != nil || len(i.Found) > 0 {
				t.Errorf("%s: Diff after the repair: %+v, %v", name, i.Found, i.Err)
			}
		}
	}
	netnstest.Command(t, box, "ip", "link", "set", "eth0", "up")
	if cs, err := b.d.Count(t.Context(), whole[1:]); err != nil || len(cs) != 1 || cs[0] == nil || len(cs[0].Policy) == 0 {
		t.Errorf("Count: %+v, %v", cs, err)
	}
	e.Rates = bowline.Rates{}
	if err := b.d.Shape(t.Context(), n, e); err != nil {
		t.Error(err)
	}
	if got := inside(t, box); strings.Contains(got, "tbf") {
		t.Errorf("limits that were lifted are there still\n%s", got)
	}
	if e.Policy, err = bowline.ParsePolicy("test", "deny egress tcp 26"); err != nil {
		t.Fatal(err)
	}
	if err := b.d.Enforce(t.Context(), n, e); err != nil {
		t.Error(err)
	}
	e.Rates = bowline.Rates{IngressRate: 8e6, EgressRate: 4e6}
	if err := b.d.Shape(t.Context(), n, e); !errors.Is(err, bowline.ErrInvalid) {
		t.Errorf("Shape of what comes, past a policy: %v", err)
	}
	e.Policy = nil
	if err := b.d.Enforce(t.Context(), n, e); err != nil {
		t.Error(err)
	}
	if err := b.d.Shape(t.Context(), n, e); err != nil {
		t.Error(err)
	}
	if got := inside(t, box); !strings.Contains(got, "rate 8Mbit") || !strings.Contains(got, "rate 4Mbit") {
		t.Errorf("inside there is\n%s", got)
	}
	b.detach(n, "one")
	b.same("after DeleteEndpoint", before)
	if got := drivertest.Snapshot(t, box); got != empty {
		t.Errorf("the sandbox has\n%s", got)
	}
	if err := b.d.Shape(t.Context(), n, e); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("Shape of one that is gone: %v", err)
	}
}
