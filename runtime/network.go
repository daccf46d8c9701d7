package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// A Network is the record of one network: its CNI configuration list.
type Network struct {
	Name    string          `json:"name"`
	Plugin  string          `json:"plugin"` // executable of the first plugin
	Subnets []netip.Prefix  `json:"subnets,omitempty"`
	Conf    json.RawMessage `json:"conf"`
	Created time.Time       `json:"created"`
}

func (n Network) list() (*libcni.NetworkConfigList, error) { return parseConf(n.Conf, "") }

// CreateNetwork records a network; the first [Runtime.Connect] brings it to life.
//
// The error wraps [bowline.ErrConflict] if the name or a subnet is taken, and
// [bowline.ErrInvalid] if the plugins are missing, do not speak the version of
// the configuration, or say that it is wrong. That a plugin could not serve just
// now is no error; [Runtime.Status] tells.
func (r *Runtime) CreateNetwork(ctx context.Context, s NetworkSpec) (Network, error) {
	unlock, err := r.locks.exclusive("networks") // two must not choose the same subnet
	if err != nil {
		return Network{}, err
	}
	defer unlock()
	conf, err := r.planNetwork(ctx, s)
	if err != nil {
		return Network{}, err
	}
	list, err := parseConf(conf, s.Name)
	if err != nil {
		return Network{}, err
	}
	if err := r.validate(ctx, list); err != nil {
		return Network{}, err
	}
	n := Network{
		Name: list.Name, Plugin: driverOf(list), Subnets: pools(list),
		Conf: list.Bytes, Created: time.Now().UTC(),
	}
	err = r.networks.Create(ctx, state.Key(n.Name), n)
	if errors.Is(err, fs.ErrExist) {
		return Network{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q exists already", n.Name))
	}
	return n, err
}

// planNetwork returns the configuration to record, its subnets chosen.
func (r *Runtime) planNetwork(ctx context.Context, s NetworkSpec) ([]byte, error) {
	if s.Conf != nil {
		return s.Conf, nil
	}
	if err := checkName("network", s.Name); err != nil {
		return nil, err
	}
	if s.Driver == "" {
		s.Driver = "bridge"
	}
	if s.Driver == hostNIC && s.ownAddresses() && len(s.Subnets) == 0 && len(s.Gateways) == 0 && !s.IPv6 {
		s.IPAM = noIPAM // the NIC has addresses
	}
	if !s.ownAddresses() {
		if len(s.Subnets) > 0 || len(s.Gateways) > 0 || s.IPv6 {
			return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: subnets, gateways and ipam %q: want one of them, for the addresses are not chosen here", s.Name, s.IPAM))
		}
		return confList(s)
	}
	taken, err := r.takenSubnets(ctx)
	if err != nil {
		return nil, err
	}
	addrs, err := hostAddrs()
	if err != nil {
		return nil, err
	}
	for i, p := range s.Subnets {
		if o, clash := overlap(p, append(slices.Clip(taken), addrs...)); clash && !s.onLAN() { // on the LAN it may be the LAN's
			return nil, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
				"network %q: subnet %s overlaps %s, which another network or the host has", s.Name, p, o))
		}
		if o, clash := overlap(p, s.Subnets[:i]); clash {
			return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: subnets %s and %s overlap", s.Name, o, p))
		}
	}
	routes, err := hostRoutes()
	if err != nil {
		return nil, err
	}
	if s.Subnets, err = chooseSubnets(s, slices.Concat(taken, addrs, routes)); err != nil {
		return nil, err
	}
	return confList(s)
}

// chooseSubnets returns the subnets of s and those that s leaves to us.
func chooseSubnets(s NetworkSpec, taken []netip.Prefix) ([]netip.Prefix, error) {
	subnets := slices.Clone(s.Subnets)
	var want []bool // IPv6?
	if len(subnets) == 0 {
		want = append(want, false)
	}
	if s.IPv6 && !slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		want = append(want, true)
	}
	for _, v6 := range want {
		p, err := freeSubnet(s.Name, v6, taken)
		if err != nil {
			return nil, err
		}
		subnets = append(subnets, p)
	}
	return subnets, nil
}

// takenSubnets returns the subnets of all networks.
func (r *Runtime) takenSubnets(ctx context.Context) ([]netip.Prefix, error) {
	all, err := r.Networks(ctx)
	if err != nil {
		return nil, err
	}
	var taken []netip.Prefix
	for _, n := range all {
		taken = append(taken, n.Subnets...)
	}
	return taken, nil
}

// validate asks the plugins whether they speak the list's version and, of those
// that can say, whether its configuration is right.
func (r *Runtime) validate(ctx context.Context, list *libcni.NetworkConfigList) error {
	if len(list.Plugins) == 0 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: no plugins in its configuration", list.Name))
	}
	for _, p := range list.Plugins {
		info, err := r.cni.GetVersionInfo(ctx, p.Network.Type)
		if err != nil {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: %v", list.Name, err))
		}
		speaks, want := info.SupportedVersions(), cmp.Or(list.CNIVersion, "0.1.0")
		if !slices.Contains(speaks, want) {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
				"network %q: cniVersion %q: %s wants one of %s", list.Name, want, p.Network.Type, strings.Join(speaks, ", ")))
		}
	}
	var said *types.Error
	if errors.As(r.cni.GetStatusNetworkList(ctx, list), &said) &&
		(said.Code == types.ErrInvalidNetworkConfig || said.Code == types.ErrUnsupportedField || said.Code == types.ErrDecodingFailure) {
		return bowline.Wrong(bowline.ErrInvalid, said.Error())
	}
	return nil
}

// Network returns the record of a network. The error wraps [bowline.ErrUnknown]
// if there is none.
func (r *Runtime) Network(ctx context.Context, name string) (Network, error) {
	var n Network
	err := r.networks.Get(ctx, state.Key(name), &n)
	if errors.Is(err, fs.ErrNotExist) {
		return n, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf(`no network %q; "bowline network ls" lists them`, name))
	}
	return n, err
}

// Networks returns all networks, by name.
func (r *Runtime) Networks(ctx context.Context) ([]Network, error) {
	return all[Network](ctx, r, r.networks, "")
}

// RemoveNetwork detaches nothing unless force is set: while sandboxes are
// attached the error wraps [bowline.ErrConflict]. It has the plugins remove all
// they keep for the network, as far as they can (CNI 1.1.0, GC with no valid
// attachments), and erases the record. With force the record goes even if the
// plugins fail, and the error says what they said.
func (r *Runtime) RemoveNetwork(ctx context.Context, name string, force bool) error {
	if _, err := r.Network(ctx, name); err != nil {
		return err
	}
	if force {
		if err := r.detachNetwork(ctx, name); err != nil {
			return err
		}
	}
	unlock, err := r.locks.exclusive(networkLock(name))
	if err != nil {
		return err
	}
	defer unlock()
	n, err := r.Network(ctx, name) // again: somebody may have been quicker
	if err != nil {
		return err
	}
	if err := r.unused(ctx, name); err != nil {
		return err
	}
	if err := r.collect(ctx, n, nil); err != nil {
		err = fmt.Errorf("network %q: %w", name, err)
		if !force {
			return err
		}
		return errors.Join(err, r.networks.Delete(ctx, state.Key(name)))
	}
	return r.networks.Delete(ctx, state.Key(name))
}

// unused returns an error that names who is attached to the network.
func (r *Runtime) unused(ctx context.Context, network string) error {
	attached, err := r.attachedTo(ctx, network)
	if err != nil {
		return err
	}
	foreign, err := r.foreign(ctx, network)
	if err != nil {
		return err
	}
	var who []string
	for _, a := range attached {
		who = append(who, a.Sandbox)
	}
	for _, e := range foreign {
		who = append(who, "container "+e.ContainerID+" of another engine")
	}
	if len(who) == 0 {
		return nil
	}
	return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
		"network %q: attached are %q: disconnect them first, or use --force", network, who))
}

// detachNetwork detaches all sandboxes from the network.
func (r *Runtime) detachNetwork(ctx context.Context, network string) error {
	attached, err := r.attachedTo(ctx, network)
	errs := []error{err}
	for _, a := range attached {
		errs = append(errs, r.Disconnect(ctx, a.Sandbox, network, a.IfName))
	}
	return errors.Join(errs...)
}
