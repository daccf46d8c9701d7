package bowline

import "context"

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
// applies e.Rates by itself; Shape changes them while the endpoint lives.
type Shaper interface {
	// Shape makes e's rates those of e.Rates; zero lifts a limit.
	Shape(ctx context.Context, n NetworkConfig, e EndpointSpec) error
}

// An Inspector is a Driver that can say all that differs from what
// CreateNetwork and CreateEndpoint left, and bring it back. CheckEndpoint
// returns the first difference as an error.
type Inspector interface {
	// Diff returns how e, and what of n it relies on, differs. It changes
	// nothing.
	Diff(ctx context.Context, n NetworkConfig, e EndpointSpec) ([]Difference, error)

	// Repair makes right what Diff finds, on the host's side, as far as it can
	// be made right without a new endpoint, and returns what it found.
	Repair(ctx context.Context, n NetworkConfig, e EndpointSpec) ([]Difference, error)
}

// A Difference is one thing that is not as it was left.
type Difference struct {
	Place string `json:"place"`          // such as "link bwo0123456789ab"
	Key   string `json:"key"`            // such as "master"
	Have  string `json:"have,omitempty"` // empty: it is gone
	Want  string `json:"want,omitempty"` // empty: it should not be there
}

// A Counter is a Driver that can say what passed endpoints.
type Counter interface {
	// Count returns the counts of all places in their order, nil for those of
	// which nothing is there. It costs about the same for one as for all.
	Count(ctx context.Context, places []Place) ([]*Counts, error)
}

// A Place is an endpoint together with its network.
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
