package cnm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/state"
)

// keyDHCP is the option of networks whose containers get addresses of the LAN's
// DHCP server. Docker's IPAM gives them none then.
const keyDHCP = "dhcp"

// adoptWithin is for how long the lease of an endpoint that is gone waits for
// its container to start again. Docker tells neither which container an endpoint
// is of, nor that two of them are of the same one.
const adoptWithin = 10 * time.Second

// leased reports whether the options are of such a network.
func leased(options map[string]string) bool {
	yes, err := strconv.ParseBool(options[keyDHCP])
	return err == nil && yes
}

// checkLeased refuses a network that would have addresses of two kinds.
func checkLeased(n Network) error {
	if !leased(n.Options) || len(n.Pools) == 0 {
		return nil
	}
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %.12s: option dhcp=%q: want --ipam-driver null too, for addresses come from the LAN and not from the pool %s",
		n.ID, n.Options[keyDHCP], n.Pools[0].Prefix))
}

func leaseKey(network, endpoint string) dhcp.Key { return dhcp.Key{Network: network, ID: endpoint} }

// mark is what an endpoint and that of its container's next start have in
// common, as far as Docker tells.
func mark(r createEndpointRequest) string {
	text, _ := json.Marshal(r.Options)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// attachLeased makes e, gets it an address, and makes sure of it with that.
func (d *NetworkDriver) attachLeased(ctx context.Context, n Network, e bowline.EndpointSpec, mark string) (bowline.Attachment, error) {
	var none bowline.Attachment
	client, key := dhcp.Client{}, leaseKey(n.ID, e.ID)
	mac, err := client.Adopt(ctx, key, mark)
	if err != nil {
		return none, err
	}
	if e.MAC == nil {
		e.MAC = mac
	}
	att, err := d.attach(ctx, n, e)
	if err != nil {
		return none, err
	}
	l, err := client.Acquire(ctx, dhcp.Request{Key: key, Link: att.Link, IPv4: true, IPv6: dhcp.IPv6Off, Probe: true, Mark: mark})
	if err != nil {
		return none, err
	}
	e.Addrs, e.MAC = l.Prefixes(), att.MAC
	return d.attach(ctx, n, e)
}

// joinLeased tells the daemon where the link goes, and adds to att the way out
// that the LAN has.
func joinLeased(ctx context.Context, r joinRequest, att bowline.Attachment) (bowline.Attachment, error) {
	client, key := dhcp.Client{}, leaseKey(r.NetworkID, r.EndpointID)
	if err := client.Join(ctx, key, r.SandboxKey); err != nil {
		return att, err
	}
	l, err := client.Get(ctx, key)
	if err != nil {
		return att, err
	}
	att.Gateways, att.Routes = nil, nil
	for _, route := range l.Routes {
		switch {
		case route.Dst.Bits() > 0:
			att.Routes = append(att.Routes, route)
		case len(att.Gateways) == 0 && route.Via.IsValid():
			att.Gateways = append(att.Gateways, route.Via)
		}
	}
	return att, nil
}

// unlease gives the endpoint's lease up. A daemon that does not run finds out
// when it does: nothing here waits for it.
func (d *NetworkDriver) unlease(ctx context.Context, n Network, rec state.Endpoint) {
	if !leased(n.Options) && !leased(rec.Options) {
		return
	}
	if err := (dhcp.Client{}).Release(ctx, leaseKey(rec.Network, rec.ID), adoptWithin); err != nil {
		d.log.WarnContext(ctx, "lease not released", "network", rec.Network, "endpoint", rec.ID, "error", err)
	}
}

// unleaseAll gives up what waits to be adopted, while the network's links still
// lead to the server.
func (d *NetworkDriver) unleaseAll(ctx context.Context, n Network) {
	if !leased(n.Options) {
		return
	}
	if err := (dhcp.Client{}).Collect(ctx, n.ID, nil); err != nil {
		d.log.WarnContext(ctx, "leases not released", "network", n.ID, "error", err)
	}
}
