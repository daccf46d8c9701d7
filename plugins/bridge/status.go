package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
)

// Status implements [bowline.StatusReporter].
func (d *driver) Status(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	name := bridgeName(n, o)
	br, err := d.host.Get(ctx, name)
	switch {
	case errors.Is(err, bowline.ErrUnknown):
		return nil // the first endpoint makes it
	case err != nil:
		return err
	case br.Kind != "bridge":
		return bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("network %q: link %s is in the way: it is not a bridge", n.ID, name))
	case !br.Up:
		return bowline.Wrong(bowline.ErrDegraded, fmt.Sprintf("network %q: bridge %s is down; set it up with: ip link set %s up", n.ID, name, name))
	}
	return nil
}
