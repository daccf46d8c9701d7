package demo

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/bowline-net/bowline/runtime"
)

// The LAN of the demo is a cable that leads nowhere: the sandboxes on it are
// macvlans of one end, which stands for the host's NIC.
const (
	lanName = "lan"
	lanEnd  = "bwdemo0"
	lanFar  = "bwdemo1"
)

// hostName is how the matrix calls the host, which asks but has no server.
const hostName = "host"

// createLAN makes the cable, the network on it, and the host's addresses there.
func (d *demo) createLAN(ctx context.Context) (runtime.Network, error) {
	if err := ip(ctx, "link add", lanEnd, "type veth peer name", lanFar); err != nil {
		return runtime.Network{}, err
	}
	for _, end := range []string{lanFar, lanEnd} {
		if err := ip(ctx, "link set", end, "up"); err != nil {
			return runtime.Network{}, err
		}
	}
	n, err := d.rt.CreateNetwork(ctx, runtime.NetworkSpec{
		Name: prefix + lanName, Driver: "macvlan", IPv6: true, Internal: true,
		// Nobody else is on this LAN who could have an address.
		Options: map[string]string{"parent": lanEnd, "host-access": "true", "acd": "false"},
	})
	if err != nil {
		return n, err
	}
	for _, p := range n.Subnets {
		more := ""
		if p.Addr().Is6() {
			more = "nodad"
		}
		if err := ip(ctx, fmt.Sprintf("addr add %s/%d dev", p.Addr().Next(), p.Bits()), lanEnd, more); err != nil {
			return n, err
		}
	}
	return n, nil
}

// removeLAN takes the cable away, if it is there.
func removeLAN(ctx context.Context) error {
	if err := exec.CommandContext(ctx, "ip", "link", "show", lanEnd).Run(); err != nil {
		return nil
	}
	return ip(ctx, "link del", lanEnd)
}

func ip(ctx context.Context, words ...string) error {
	args := strings.Fields(strings.Join(words, " "))
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
