package bowline

import (
	"context"
	"net/netip"
)

// A Sharer is a Driver that takes the host's own namespace for a sandbox: a
// container there has what the host has. Nothing is made and nothing is
// remembered.
type Sharer interface {
	// Shared returns the links that a container finds there, that of the default
	// route first, and the default routes. The error wraps [ErrInvalid] if n asks
	// for something that takes a sandbox of the container's own.
	Shared(ctx context.Context, n NetworkConfig) ([]SharedLink, []Route, error)
}

// A SharedLink is a link of the host with its addresses.
type SharedLink struct {
	Link
	Addrs []netip.Prefix
}

// A Lender is a Driver whose endpoints' links are links of the host, which keep
// their MAC and go back to the host. Its endpoints have the option deviceID, by
// which an engine says which link it has chosen for one.
type Lender interface {
	// Reclaim brings back what sandboxes had that ended without DeleteEndpoint,
	// as far as their endpoints are not Docker's, and returns what it brought back.
	Reclaim(ctx context.Context) ([]Place, error)
}
