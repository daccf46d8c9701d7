// Package kernel carries a host's packets of networks across hosts by what every
// kernel has: a namespace and a VXLAN per network.
//
//	container ── veth ── namespace of the network ── VXLAN ┈ socket in the host
//	             02:6f:76:00:00:01 at every node      one route per block, one
//	             ARP and ND answered here             neighbour and FDB entry per node
//
// The namespace routes; there is no bridge, nothing is flooded and nothing is
// learned. What a container asks for by ARP or ND is answered there and then with
// the gateway's MAC, but for probes of duplicate addresses, so a container needs
// no news of others, ever. Which packets may come in by the socket is decided in
// the host.
//
// Every name is derived from VNI and endpoint, so nothing is remembered here:
// [Path.Apply] looks at what there is and makes it what it must be.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/overlay"
)

const (
	tunnel = "tunnel" // the VXLAN, in its network's namespace
	prefix = "vni-"   // of the file that holds the namespace
)

// A Path is the data path of one host. Its methods may be called from several
// goroutines; one works at a time.
type Path struct {
	dir   string
	ns    bowline.Namespace
	host  *link.Handle
	rules *nft.Handle
	mu    sync.Mutex
}

// Open returns the data path whose tunnels end in the namespace host, which must
// stay open as long. Namespaces of networks are kept in dir, which is nobody
// else's.
func Open(host bowline.Namespace, dir string) (*Path, error) {
	h, err := link.Open(host)
	if err != nil {
		return nil, err
	}
	return &Path{dir: dir, ns: host, host: h, rules: nft.Open(host)}, nil
}

// Close releases what Open took; networks and endpoints stay.
func (p *Path) Close() error {
	p.host.Close()
	return p.rules.Close()
}

func (p *Path) file(vni uint32) string { return filepath.Join(p.dir, fmt.Sprint(prefix, vni)) }

// Networks returns the VNIs of which there is something, whole or not, sorted.
func (p *Path) Networks(ctx context.Context) ([]uint32, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list overlay networks: %w", err)
	}
	files, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []uint32
	for _, f := range files {
		if digits, ok := strings.CutPrefix(f.Name(), prefix); ok {
			if vni, err := strconv.ParseUint(digits, 10, 24); err == nil {
				all = append(all, uint32(vni))
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// A space is the namespace of a network, open.
type space struct {
	ns    *netns.Handle
	links *link.Handle
	rules *nft.Handle
}

func (s *space) close() {
	s.links.Close()
	_ = s.rules.Close()
	s.ns.Close()
}

// enter opens the namespace of the network. The error wraps [bowline.ErrUnknown]
// if there is none.
func (p *Path) enter(vni uint32) (*space, error) {
	ns, err := netns.Open(p.file(vni))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNamespace) {
		return nil, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network with VNI %d: it has no namespace on this host", vni))
	}
	if err != nil {
		return nil, err
	}
	return inside(ns)
}

func inside(ns *netns.Handle) (*space, error) {
	links, err := link.Open(ns)
	if err != nil {
		ns.Close()
		return nil, err
	}
	return &space{ns, links, nft.Open(ns)}, nil
}

// settings are those of a network's namespace. Links get those of "default" when
// they are made.
func settings() [][2]string {
	return [][2]string{
		{"net/ipv4/conf/default/proxy_arp", "1"},
		{"net/ipv4/conf/all/rp_filter", "1"}, // who sends must be where the answer would go
		{"net/ipv4/conf/all/send_redirects", "0"},
		{"net/ipv4/conf/default/send_redirects", "0"},
		{"net/ipv6/conf/default/accept_ra", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv6/conf/all/forwarding", "1"},
	}
}

// ensureSpace makes the network's namespace, with the gateways, as far as it is
// not there.
func (p *Path) ensureSpace(ctx context.Context, n overlay.Network, r *Report) (*space, error) {
	s, err := p.enter(n.VNI)
	if errors.Is(err, bowline.ErrUnknown) {
		var ns *netns.Handle
		// A file without a namespace is what a kill, or an umount, has left.
		if err = netns.Remove(p.file(n.VNI)); err == nil {
			ns, err = netns.NewAt(p.file(n.VNI))
		}
		if err != nil {
			return nil, err
		}
		r.made("namespace")
		s, err = inside(ns)
	}
	if err != nil {
		return nil, err
	}
	if err := s.settle(ctx, n, r); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *space) settle(ctx context.Context, n overlay.Network, r *Report) error {
	for _, kv := range settings() {
		before, err := s.links.SetSysctl(ctx, kv[0], kv[1])
		if err != nil {
			return err
		}
		if before != kv[1] {
			r.made("setting " + kv[0])
		}
	}
	for _, sub := range n.Subnets {
		made, err := s.links.EnsureGateway(ctx, sub.Gateway)
		if err != nil {
			return err
		}
		if made {
			r.made("gateway " + sub.Gateway.String())
		}
	}
	return nil
}

// Delete removes all of the network on this host. It succeeds if there is nothing.
// Of the underlay only the port counts. The links of its containers go with it.
func (p *Path) Delete(ctx context.Context, vni uint32, u overlay.Underlay) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := p.enter(vni)
	if err == nil {
		var names []string
		names, err = s.links.Names(ctx)
		if err == nil {
			err = s.links.Delete(ctx, names...)
		}
		s.close()
	}
	if err != nil && !errors.Is(err, bowline.ErrUnknown) {
		return err
	}
	if err := p.rules.DeleteTunnel(ctx, nft.Tunnel{Port: u.Port, VNI: vni}); err != nil {
		return err
	}
	return netns.Remove(p.file(vni)) // last: while it is there, Networks tells of it
}

func gateway() net.HardwareAddr {
	m := overlay.GatewayMAC()
	return m[:]
}

// prefixes returns the network's subnets.
func prefixes(n overlay.Network) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range n.Subnets {
		all = append(all, s.Prefix)
	}
	return all
}
