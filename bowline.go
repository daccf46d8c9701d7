// Package bowline holds the words that every room of the house shares: what a
// network, an endpoint and an attachment are, and the contract that a driver
// keeps. It imports the standard library only.
package bowline

import (
	"context"
	"net"
	"net/netip"
)

// A Driver makes networks and endpoints out of kernel objects in the host
// namespace.
//
// A driver remembers nothing: every call carries the whole [NetworkConfig], and
// every kernel name is a hash of an ID (see [LinkName]). Create is idempotent;
// asking for something different under the same ID is [ErrConflict]; a failed
// create leaves the host as it found it. Delete succeeds when there is nothing
// to delete. All methods may be called from several goroutines and from several
// processes at once.
type Driver interface {
	// CreateNetwork makes what all endpoints of n share.
	CreateNetwork(ctx context.Context, n NetworkConfig) error

	// DeleteNetwork removes what CreateNetwork made. Endpoints that still
	// exist make it fail with [ErrConflict].
	DeleteNetwork(ctx context.Context, n NetworkConfig) error

	// CreateEndpoint makes e on n and says how its link is to be dressed.
	// n must have been created. A face may ask for e without addresses
	// first, and again when IPAM has given some.
	CreateEndpoint(ctx context.Context, n NetworkConfig, e EndpointSpec) (Attachment, error)

	// DeleteEndpoint removes the host's side of e, and with it the link in the
	// sandbox. It needs e.ID only; the other fields save a search.
	DeleteEndpoint(ctx context.Context, n NetworkConfig, e EndpointSpec) error

	// CheckEndpoint returns nil if e is as CreateEndpoint left it, or an error
	// that names the first difference. It changes nothing.
	CheckEndpoint(ctx context.Context, n NetworkConfig, e EndpointSpec) error
}

// A Validator is a Driver that can tell a wrong configuration without touching
// the kernel. Faces call it before they take an address.
type Validator interface {
	ValidateNetwork(n NetworkConfig) error
	ValidateEndpoint(n NetworkConfig, e EndpointSpec) error
}

// A Planner is a Driver that can tell what CreateEndpoint would make, for the
// record that is written before it is made.
type Planner interface {
	// PlanEndpoint returns the name of the link that stays in the host and
	// the MAC of the one that goes into the sandbox.
	PlanEndpoint(n NetworkConfig, e EndpointSpec) (hostLink string, mac net.HardwareAddr, err error)
}

// A StatusReporter is a Driver that can say whether it could create an endpoint
// of n now. A nil error means yes. The error wraps [ErrUnavailable] or
// [ErrDegraded] (CNI spec 1.1.0, STATUS).
type StatusReporter interface {
	Status(ctx context.Context, n NetworkConfig) error
}

// A Collector is a Driver that can find endpoints from the kernel alone, for
// garbage whose record is lost.
type Collector interface {
	// Prune removes what it finds of endpoints of n whose ID is not in keep.
	Prune(ctx context.Context, n NetworkConfig, keep []string) error

	// Networks returns the networks that the driver made and that have no
	// endpoint, each with what DeleteNetwork needs of it.
	Networks(ctx context.Context) ([]NetworkConfig, error)
}

// NetworkConfig is a network as its driver sees it.
type NetworkConfig struct {
	ID      string            // unique on this host: a CNI network name or a Docker network ID
	Pools   []Pool            // what the addresses of endpoints come from; may be empty (L2 only)
	Options map[string]string // keys and values of the driver's option grammar
}

// A Pool is a prefix that addresses come from.
type Pool struct {
	Prefix  netip.Prefix // masked
	Gateway netip.Addr   // inside Prefix; the zero Addr if the pool has none
}

// An EndpointSpec is one container's place on one network.
type EndpointSpec struct {
	ID      string            // unique within the network
	IfName  string            // name of the link inside the sandbox; empty: the engine names it
	Addrs   []netip.Prefix    // address and prefix length of its pool
	MAC     net.HardwareAddr  // nil: the driver derives one
	Sandbox Namespace         // nil: leave the link in the host namespace
	Options map[string]string // per-endpoint keys of the driver's option grammar
	Ports   []PortMapping     // what is published for it
	Rates   Rates             // what it may send and receive
	Policy  []PolicyRule      // whom it may talk to; empty: anybody that its network lets it
}

// A Namespace is an open network namespace. *os.File and netns.Handle are.
type Namespace interface {
	Fd() uintptr // valid for as long as the Namespace is reachable
}

// An Attachment says which link goes into the sandbox and how to dress it.
type Attachment struct {
	Link     string           // its name now: IfName inside the sandbox if one was given, else a host name; empty: there is none, a program drives the device
	MAC      net.HardwareAddr // of Link
	MTU      int              // bytes, of Link
	Addrs    []netip.Prefix
	Pools    []Pool            // of Addrs, each with the gateway that the driver gave it; nil: as asked for
	Gateways []netip.Addr      // next hops of default routes, at most one per family; empty: no default route
	Routes   []Route           // further routes
	Sysctls  map[string]string // with IFNAME where the link's name belongs
	Tuning   Tuning            // of Link, which the driver made so
	Ports    []PortMapping     // what is published, with the host ports that the driver chose
	Down     bool              // leave the link down
	DAD      bool              // let IPv6 addresses go through duplicate address detection
	Quiet    bool              // do not tell neighbours of the addresses
	Shared   bool              // others than us give addresses on its L2: an address is probed before it is used
	Host     []Link            // links that stay in the host, outermost first
}

// A Tuning is how a link is set apart from what it is; nil fields leave it as
// the kernel has it.
type Tuning struct {
	Promisc  *bool
	AllMulti *bool
	TxQLen   *int // packets
}

// A Link is an interface as a result names it.
type Link struct {
	Name string
	MAC  net.HardwareAddr
	MTU  int
}

// A Route is an entry of a sandbox's routing table. Zero means unset for MTU,
// AdvMSS and Priority, nil for Table and Scope (CNI spec 1.1.0, "routes").
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	Via      netip.Addr   `json:"via,omitzero"`     // zero: on link
	MTU      int          `json:"mtu,omitempty"`    // bytes
	AdvMSS   int          `json:"advmss,omitempty"` // bytes
	Priority int          `json:"priority,omitempty"`
	Table    *int         `json:"table,omitempty"`
	Scope    *int         `json:"scope,omitempty"`
}
