// Package endpoint is what drivers share about endpoints: the marks of what is theirs, the options
// that every endpoint has, and differences as they are said.
package endpoint

import (
	"fmt"
	"net"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/plugin"
)

// Marks start the aliases of links, and say whose they are: of a network, so
// that it may be deleted with it; of an endpoint; of an endpoint's limits.
const (
	NetworkMark = "bowline network "
	Mark        = "bowline endpoint "
	LimitsMark  = "bowline limits "
)

// NetworkAlias is that of a link which all endpoints of n share.
func NetworkAlias(n bowline.NetworkConfig) string { return NetworkMark + shown(n.ID) }

// Alias says in ip link what an endpoint's link is for. It starts with
// the network, so that the network's endpoints can be found by it.
func Alias(n bowline.NetworkConfig, endpoint string) string {
	return Prefix(n) + fmt.Sprintf("%.100s", endpoint)
}

// Prefix starts the aliases of the links of n's endpoints.
func Prefix(n bowline.NetworkConfig) string { return Mark + shown(n.ID) + "/" }

// LimitsPrefix starts the aliases of the links at which what n's endpoints send
// waits.
func LimitsPrefix(n bowline.NetworkConfig) string { return LimitsMark + shown(n.ID) + "/" }

// shown is the ID as far as an alias has room for it, 255 bytes in all. A long
// one ends in a hash, so that no two look the same.
func shown(id string) string {
	if len(id) <= 100 {
		return id
	}
	return id[:80] + "~" + bowline.LinkName("", id)
}

// OwnIFB tells the link of an endpoint's limits from one of somebody else that
// has its name. Links get their alias after birth: if a kill came before it, the
// kind says whose it is.
func OwnIFB(l link.Info) bool {
	return l.Kind == "ifb" && (l.Alias == "" || strings.HasPrefix(l.Alias, LimitsMark))
}

// Limits are e's rates as the host's end of its link has them: what leaves the
// host by it is what comes to the endpoint. What it sends waits at the link ifb.
func Limits(n bowline.NetworkConfig, e bowline.EndpointSpec, ifb string) link.Limits {
	r := e.Rates
	return link.Limits{
		Out: link.Bucket{Rate: r.IngressRate, Burst: r.IngressBurst / 8},
		In:  link.Bucket{Rate: r.EgressRate, Burst: r.EgressBurst / 8},
		IFB: ifb, Alias: LimitsPrefix(n) + fmt.Sprintf("%.100s", e.ID),
	}
}

// MAC is that of the endpoint's link: as asked for by the engine, the endpoint's
// options or the network's, else one that is a function of its ID.
func MAC(n bowline.NetworkConfig, e bowline.EndpointSpec) (net.HardwareAddr, error) {
	o, err := Parse(e)
	switch {
	case err != nil:
		return nil, err
	case e.MAC != nil:
		return e.MAC, nil
	case o.MAC != nil:
		return o.MAC, nil
	}
	// Of a network: as the reference tuning plugin has it, for networks of one.
	if text := n.Options["mac"]; text != "" {
		if mac, err := plugin.ParseMAC(text); err == nil { // validated with the other options
			return mac, nil
		}
	}
	return bowline.MAC(n.ID, e.ID), nil
}
