package bowline

import (
	"context"
	"net"
	"net/netip"
)

// A Publisher is a Driver that can lead ports of the host to an endpoint.
// CreateEndpoint publishes e.Ports by itself; the methods here are for engines
// that publish apart from attaching, and for changes while the endpoint lives.
type Publisher interface {
	// Publish leads e.Ports to e, in place of all that was published for it
	// before, and returns them with the host ports that it chose. A port that
	// somebody else has is [ErrConflict] and names the holder; then what was
	// published before stays.
	Publish(ctx context.Context, n NetworkConfig, e EndpointSpec) ([]PortMapping, error)

	// Unpublish ends what is published for e. It needs e.ID only; the other
	// fields save a search. It succeeds if there is nothing.
	Unpublish(ctx context.Context, n NetworkConfig, e EndpointSpec) error
}

// A Shaper is a Driver that can limit the rates of an endpoint. CreateEndpoint
// applies e.Rates by itself; Shape changes them while the endpoint lives. Its
// e.Sandbox is given if it lives.
type Shaper interface {
	// Shape makes e's rates those of e.Rates; zero lifts a limit.
	Shape(ctx context.Context, n NetworkConfig, e EndpointSpec) error
}

// A Policer is a Driver that can keep endpoints from talking to some. It enforces
// e.Policy in CreateEndpoint by itself; Enforce changes it while the endpoint
// lives. Its e.Sandbox is given if it lives.
type Policer interface {
	// Enforce makes e's policy that of e.Policy, in place of what it was, in one
	// step. Connections that are there are decided about anew.
	Enforce(ctx context.Context, n NetworkConfig, e EndpointSpec) error
}

// A Resident is a Driver on whose networks the host itself has addresses, without
// hearing who asks for them there: faces must not give them to endpoints.
type Resident interface {
	// HostAddrs returns them, with the MAC that each is at.
	HostAddrs(ctx context.Context, n NetworkConfig) (map[netip.Addr]net.HardwareAddr, error)
}

// A Settler is a Driver that has something to do in a sandbox beside what every
// attachment takes: CreateEndpoint does it if the Sandbox is given, Settle where
// the engine itself moved the link there afterwards.
type Settler interface {
	// Settle finishes e, whose link is in e.Sandbox as e.IfName.
	Settle(ctx context.Context, n NetworkConfig, e EndpointSpec) error
}

// An Unsettler is a Settler whose work in a sandbox does not go with the link when
// an engine takes that out, as Docker does at a disconnect.
type Unsettler interface {
	// Unsettle removes what Settle made in e.Sandbox, which the link has left.
	Unsettle(ctx context.Context, n NetworkConfig, e EndpointSpec) error
}

// An Inspector is a Driver that can say all that differs from what
// CreateNetwork and CreateEndpoint left, and bring it back. A place whose
// endpoint has no ID is the network alone, what all of its endpoints rely on;
// else it is what the endpoint has of its own, with its Sandbox if that lives.
// Both methods look at the host once, however many places there are.
// CheckEndpoint returns the first difference of both as an error.
type Inspector interface {
	// Diff returns what differs at each place, in their order. It changes
	// nothing.
	Diff(ctx context.Context, places []Place) []Inspection

	// Repair makes right what differs at the places, one after the other, so
	// networks should come before their endpoints, and leaves alone what is
	// right. A link that is gone is made again if the endpoint's Sandbox is given.
	Repair(ctx context.Context, places []Place) []Inspection
}

// An Inspection is what was found at one place.
type Inspection struct {
	Found []Difference
	// Err says why it could not be told, or, of a repair, why some of it is
	// still so; nil: all is right now.
	Err error
	// Attachment is what CreateEndpoint would return for the endpoint. If its
	// network is gone it has no MTU.
	Attachment Attachment
}

// A Watcher is a Driver that can tell when there may be differences.
type Watcher interface {
	// Watch calls changed after each event that may be a difference, until ctx
	// is done, and returns nil then. Calls come one at a time and must not take
	// long. Nothing that happens after ready was called goes untold.
	Watch(ctx context.Context, ready func(), changed func(Event)) error
}

// An Event tells where something may differ.
type Event struct {
	// Sandbox is the ID that the host's namespace has for the one where it
	// happened, as ip-netns shows it; -1: the host's own.
	Sandbox int
	// All says that events were lost: anything may differ.
	All bool
}

// A Counter is a Driver that can say what passed endpoints.
type Counter interface {
	// Count returns the counts of all places in their order, nil for those of
	// which nothing is there. Endpoints come with their Sandbox if that lives.
	Count(ctx context.Context, places []Place) ([]*Counts, error)
}

// A Place is an endpoint together with its network, or the network alone if the
// endpoint has no ID.
type Place struct {
	Network  NetworkConfig
	Endpoint EndpointSpec
}

// Counts are of an endpoint since it was made. Received is seen from the
// endpoint.
type Counts struct {
	ReceivedBytes   uint64 `json:"receivedBytes"`
	ReceivedPackets uint64 `json:"receivedPackets"`
	ReceivedDrops   uint64 `json:"receivedDrops"` // packets
	SentBytes       uint64 `json:"sentBytes"`
	SentPackets     uint64 `json:"sentPackets"`
	SentDrops       uint64 `json:"sentDrops"` // packets
	// Policy holds one entry per rule of the endpoint's policy, in their order,
	// and last what no rule met, by direction.
	Policy []PolicyCount `json:"policy,omitempty"`
}

// A PolicyCount says how often a rule was met.
type PolicyCount struct {
	Rule    string `json:"rule"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}
