package cnm

import "encoding/json"

// The structs of the Docker remote driver protocol. They are our own because
// go-plugins-helpers lacks NetworkDriver.GwAllocCheck with its capability
// GwAllocChecker, the IPAM capability RequiresRequestReplay, and a Join answer
// that can leave InterfaceName out.

// Keys that dockerd itself puts into Options.
const (
	labelPrefix   = "com.docker.network."
	labelGeneric  = labelPrefix + "generic"
	labelInternal = labelPrefix + "internal"
	labelPortMap  = labelPrefix + "portmap"
	labelOnlyIPv4 = labelPrefix + "driver.private.no_proxy_6to4"
	labelIfPrefix = labelPrefix + "container_iface_prefix"
	labelName     = labelPrefix + "endpoint.name"
	labelGateway  = labelPrefix + "gateway" // value of optionType

	optionType = "RequestAddressType"
)

type empty struct{}

type capabilities struct {
	Scope             string // "local" or "global"
	ConnectivityScope string // empty: as Scope
	GwAllocChecker    bool   // serves GwAllocCheck (Docker 28 and later)
}

type gwAllocCheckRequest struct {
	Options map[string]json.RawMessage
}

type gwAllocCheckResponse struct {
	SkipIPv4, SkipIPv6 bool
}

type createNetworkRequest struct {
	NetworkID string
	Options   map[string]json.RawMessage
	IPv4Data  []ipamData
	IPv6Data  []ipamData
}

// ipamData is one pool of a network. AuxAddresses are not here: they are
// reservations, which concern the IPAM only.
type ipamData struct {
	Pool    string // CIDR
	Gateway string // address and prefix length
}

type networkRequest struct {
	NetworkID string
}

type endpointRequest struct {
	NetworkID, EndpointID string
}

type createEndpointRequest struct {
	NetworkID, EndpointID string
	Interface             *endpointInterface
	Options               map[string]json.RawMessage
}

// createEndpointResponse holds only what the request left empty: dockerd takes
// a value that it gave, even the same one, for a forbidden change.
type createEndpointResponse struct {
	Interface endpointInterface
}

type endpointInterface struct {
	Address, AddressIPv6 string // address and prefix length
	MacAddress           string
}

type joinRequest struct {
	NetworkID, EndpointID string
	SandboxKey            string // path of the sandbox's namespace
	Options               map[string]json.RawMessage
}

type joinResponse struct {
	InterfaceName         *interfaceName `json:",omitempty"` // nil: nothing to move
	Gateway, GatewayIPv6  string
	StaticRoutes          []staticRoute
	DisableGatewayService bool // true: no docker_gwbridge in place of a gateway
}

// interfaceName tells dockerd which link to move into the sandbox; it names it
// DstPrefix and a number there.
type interfaceName struct {
	SrcName, DstPrefix string
}

type staticRoute struct {
	Destination string // CIDR
	RouteType   int    // viaNextHop or onLink
	NextHop     string
}

const (
	viaNextHop = 0
	onLink     = 1
)

type connectivityRequest struct {
	NetworkID, EndpointID string
	Options               map[string]json.RawMessage
}

// portBinding is an entry of labelPortMap: one port of the sandbox, and the one
// of the host, or those to choose one from.
type portBinding struct {
	Proto                       uint8 // as in the IP header
	Port, HostPort, HostPortEnd uint16
	HostIP                      string // empty: all addresses of the host
}

type operInfoResponse struct {
	Value map[string]string
}

type ipamCapabilities struct {
	RequiresMACAddress    bool
	RequiresRequestReplay bool // pools and addresses are asked for again when dockerd starts
}

type addressSpacesResponse struct {
	LocalDefaultAddressSpace, GlobalDefaultAddressSpace string
}

type requestPoolRequest struct {
	AddressSpace  string
	Pool, SubPool string // CIDR; empty: any, all of it
	Options       map[string]string
	V6            bool
}

type requestPoolResponse struct {
	PoolID string
	Pool   string // CIDR
	Data   map[string]string
}

type releasePoolRequest struct {
	PoolID string
}

type requestAddressRequest struct {
	PoolID  string
	Address string // without prefix length; empty: any
	Options map[string]string
}

type requestAddressResponse struct {
	Address string // and prefix length
	Data    map[string]string
}

type releaseAddressRequest struct {
	PoolID, Address string
}
