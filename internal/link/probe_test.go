package link

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// What the probe says of a kind must be what ip says of it.
func TestProbe(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"veth", "bridge", "macvlan", "vxlan", "ifb", "dummy", "ipvlan", "vlan", "vrf", "nonesuch"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h, err := Open(ns)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			got := h.Probe(t.Context(), kind)
			if names, err := h.Names(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("links afterwards are %v, %v", names, err)
			}
			if got != nil && !errors.Is(got, bowline.ErrNoKernel) {
				t.Errorf("Probe: %v", got)
			}
			argv := []string{"link", "add", "name", "x"}
			switch kind {
			case "macvlan", "ipvlan", "vlan":
				argv = append(argv, "link", "outer")
			}
			argv = append(argv, "type", kind)
			switch kind {
			case "vxlan", "vlan":
				argv = append(argv, "id", "1")
			case "vrf":
				argv = append(argv, "table", "100")
			}
			err = netns.Do(ns, func() error {
				if out, err := exec.Command("ip", "link", "add", "outer", "type", "veth").CombinedOutput(); err != nil {
					t.Errorf("ip: %v: %s", err, out)
				}
				return exec.Command("ip", argv...).Run()
			})
			if (err == nil) != (got == nil) {
				t.Errorf("Probe says %v, ip %v says %v", got, argv, err)
			}
		})
	}
}
