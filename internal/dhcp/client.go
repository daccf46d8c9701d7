package dhcp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/socket"
)

// A Client asks the daemon that listens on the socket at Path.
type Client struct {
	Path string // empty: [SocketPath]
}

// The methods of the daemon, and what they are asked and answer.
const (
	MethodAcquire = "Dhcp.Acquire" // Request, Lease
	MethodGet     = "Dhcp.Get"     // Key, Lease
	MethodJoin    = "Dhcp.Join"    // Joined, Nothing
	MethodRelease = "Dhcp.Release" // Released, Nothing
	MethodAdopt   = "Dhcp.Adopt"   // Adopted, Heir
	MethodCollect = "Dhcp.Collect" // Kept, Nothing
	MethodStatus  = "Dhcp.Status"  // Nothing, Nothing
)

// Joined says which sandbox the link is moved to.
type Joined struct {
	Key
	Sandbox string `json:"sandbox"`
}

// Released says which lease is given up, and for how long it may be adopted.
type Released struct {
	Key
	Within time.Duration `json:"within,omitempty"`
}

// Adopted says which endpoint follows one whose lease was given up.
type Adopted struct {
	Key
	Mark string `json:"mark"`
}

// An Heir has what the adopted lease's link had.
type Heir struct {
	MAC string `json:"mac,omitempty"` // empty: there is no lease to adopt
}

// Kept are the endpoints of a network that are still there, by their IDs.
type Kept struct {
	Network string   `json:"network"`
	IDs     []string `json:"ids"`
}

// Nothing is asked or answered.
type Nothing struct{}

// A NotRunningError says that nobody answers on the socket. It wraps
// [bowline.ErrUnavailable].
type NotRunningError struct{ Path string }

func (e *NotRunningError) Error() string {
	start := "bowline-dhcp serve"
	if e.Path != SocketPath() {
		start += " -socket " + e.Path
	}
	return fmt.Sprintf("the DHCP daemon is not running: nobody answers on %s; start it with \"systemctl start bowline-dhcp\" or \"%s\"", e.Path, start)
}

func (e *NotRunningError) Unwrap() error { return bowline.ErrUnavailable }

// Acquire gets addresses for the link and has them kept. After an error, or when
// ctx ends, nothing is kept. A second Acquire of the same key takes the place of
// the first and gets the same addresses if the server lets it.
func (c Client) Acquire(ctx context.Context, r Request) (l Lease, err error) {
	err = c.call(ctx, MethodAcquire, r, &l)
	return l, err
}

// Get returns what the link has been given and has now. The error wraps
// [bowline.ErrDiffers] if there is no lease, or one that has expired.
func (c Client) Get(ctx context.Context, k Key) (l Lease, err error) {
	err = c.call(ctx, MethodGet, k, &l)
	return l, err
}

// Join says that the link is being moved into the sandbox.
func (c Client) Join(ctx context.Context, k Key, sandbox string) error {
	return c.call(ctx, MethodJoin, Joined{k, sandbox}, new(Nothing))
}

// Release gives the lease up: the server is told, from the host if the link is
// gone. It succeeds if there is none. If within is not 0, an endpoint that
// follows may adopt the lease for so long, and the server is told after that.
func (c Client) Release(ctx context.Context, k Key, within time.Duration) error {
	return c.call(ctx, MethodRelease, Released{k, within}, new(Nothing))
}

// Adopt hands the lease of an endpoint of the network that was released lately,
// and had the same mark, to the endpoint k, which is to get a link with the MAC
// and to call Acquire then. An empty MAC: there is none.
func (c Client) Adopt(ctx context.Context, k Key, mark string) (mac net.HardwareAddr, err error) {
	var h Heir
	if err := c.call(ctx, MethodAdopt, Adopted{k, mark}, &h); err != nil || h.MAC == "" {
		return nil, err
	}
	return net.ParseMAC(h.MAC)
}

// Collect gives up all leases of the network whose endpoints are not listed.
func (c Client) Collect(ctx context.Context, network string, ids []string) error {
	return c.call(ctx, MethodCollect, Kept{network, ids}, new(Nothing))
}

// Status returns nil if the daemon answers.
func (c Client) Status(ctx context.Context) error {
	return c.call(ctx, MethodStatus, Nothing{}, new(Nothing))
}

func (c Client) call(ctx context.Context, method string, request, answer any) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	if c.Path == "" {
		c.Path = SocketPath()
	}
	err := socket.Post(ctx, c.Path, method, request, answer)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return &NotRunningError{c.Path}
	}
	return err
}
