package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/undo"
)

// An Attachment is the record of one sandbox's place on one network.
type Attachment struct {
	Sandbox     string         `json:"sandbox"`
	ContainerID string         `json:"containerID"`
	Network     string         `json:"network"`
	Plugin      string         `json:"plugin"`
	IfName      string         `json:"ifname"`
	Netns       string         `json:"netns"`
	NetnsID     netns.ID       `json:"netnsID"`
	BootID      string         `json:"bootID"`
	MAC         string         `json:"mac,omitempty"`
	Addrs       []netip.Prefix `json:"addrs,omitempty"`
	Gateways    []netip.Addr   `json:"gateways,omitempty"`
	// Ports are what is published, with the host ports that the plugin chose.
	Ports   []bowline.PortMapping `json:"ports,omitempty"`
	Result  json.RawMessage       `json:"result,omitempty"` // what the last plugin printed
	Created time.Time             `json:"created"`
	// Ready is set when the plugins had done it all, until they are asked to undo it.
	Ready bool `json:"ready"`
	// What the plugins were called with, for DEL must be called with the same
	// even if the network was changed meanwhile.
	Conf         json.RawMessage `json:"conf"`
	Args         [][2]string     `json:"args,omitempty"`
	Capabilities map[string]any  `json:"capabilities,omitempty"`
}

// A ConnectSpec says which sandbox is to be attached to which network, and how.
type ConnectSpec struct {
	Sandbox, Network string
	IfName           string           // default: the first free of eth0, eth1, ...
	IPs              []netip.Addr     // default: the plugin chooses
	MAC              net.HardwareAddr // default: the plugin chooses
	Policy           string           // rules for whom it may talk to, before those of the network
	Ports            []bowline.PortMapping
	Rates            bowline.Rates // what it may send and receive; zero: as the network has it
}

func (a Attachment) record() string { return state.Key(a.ContainerID) + "/" + state.Key(a.IfName) }

// alive reports whether the namespace that was attached is still there.
func (a Attachment) alive() bool {
	return Sandbox{Path: a.Netns, NetnsID: a.NetnsID, BootID: a.BootID}.Alive()
}

func (a Attachment) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: a.ContainerID, NetNS: a.Netns, IfName: a.IfName,
		Args: a.Args, CapabilityArgs: a.Capabilities,
	}
}

// Connect attaches a sandbox to a network.
//
// The error wraps [bowline.ErrConflict] if the sandbox has that link, or is on
// that network and c.IfName is empty; what was never finished is no conflict,
// and cleared first. It wraps [bowline.ErrUnavailable] if the plugins ignored the
// address, MAC or rates that c asks for. A sandbox that shares the host's namespace
// is a conflict, too. After an error the sandbox is as before, unless
// the plugins failed to take back their work, too: then the record stays for
// [Runtime.GC].
func (r *Runtime) Connect(ctx context.Context, c ConnectSpec) (Attachment, error) {
	var none Attachment
	unlock, err := r.locks.exclusive(sandboxLock(c.Sandbox))
	if err != nil {
		return none, err
	}
	defer unlock()
	s, err := r.live(ctx, c.Sandbox)
	if err != nil {
		return none, err
	}
	if s.Network == NetworkHost {
		return none, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
			"connect %s to %s: the sandbox shares the host's own namespace, where its link would be one of the host; want a sandbox made without --network host",
			c.Sandbox, c.Network))
	}
	if err := r.clearUnfinished(ctx, s, c); err != nil {
		return none, err
	}
	unlockNetwork, err := r.locks.shared(networkLock(c.Network))
	if err != nil {
		return none, err
	}
	defer unlockNetwork()
	n, err := r.Network(ctx, c.Network)
	if err != nil {
		return none, err
	}
	list, err := n.list()
	if err != nil {
		return none, err
	}
	if c.IfName, err = r.chooseIfName(ctx, s, c); err != nil {
		return none, err
	}
	a := Attachment{
		Sandbox: s.Name, ContainerID: s.ID, Network: n.Name, Plugin: n.Plugin, IfName: c.IfName,
		Netns: s.Path, NetnsID: s.NetnsID, BootID: s.BootID, Conf: n.Conf, Created: time.Now().UTC(),
	}
	if err := a.request(list, c); err != nil {
		return none, err
	}
	return r.attach(ctx, list, a, c)
}

// clearUnfinished takes away what a kill has left where c is to be: nobody is in
// the middle of making it, for the caller has locked the sandbox.
func (r *Runtime) clearUnfinished(ctx context.Context, s Sandbox, c ConnectSpec) error {
	attached, err := r.attachmentsOf(ctx, s.ID)
	for _, a := range attached {
		if !a.Ready && (a.Network == c.Network || a.IfName == c.IfName) {
			if err := r.detach(ctx, a, false); err != nil {
				return err
			}
		}
	}
	return err
}

// attach calls the plugins for a, whose sandbox and network the caller has locked.
func (r *Runtime) attach(ctx context.Context, list *libcni.NetworkConfigList, a Attachment, c ConnectSpec) (Attachment, error) {
	where := fmt.Sprintf("connect %s to %s", a.Sandbox, a.Network)
	var u undo.Stack
	defer u.Rollback(ctx)
	err := r.attachments.Create(ctx, a.record(), a)
	if errors.Is(err, fs.ErrExist) {
		return Attachment{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("%s: the sandbox has a link %s already", where, a.IfName))
	}
	if err != nil {
		return Attachment{}, err
	}
	// A failed ADD is followed by DEL, as the specification has it.
	u.Push("detach after failure", func(ctx context.Context) error { return r.del(ctx, a) })
	result, err := r.cni.AddNetworkList(ctx, list, a.runtimeConf())
	if err != nil {
		return Attachment{}, fmt.Errorf("%s: %w", where, err)
	}
	if err := a.learn(result); err != nil {
		return Attachment{}, fmt.Errorf("%s: %w", where, err)
	}
	if err := r.learnPorts(ctx, &a, c); err != nil {
		return Attachment{}, fmt.Errorf("%s: %w", where, err)
	}
	if err := errors.Join(a.satisfies(c), r.ratesKept(ctx, list, a, c)); err != nil {
		return Attachment{}, fmt.Errorf("%s: %w", where, err)
	}
	a.Ready = true
	if err := r.attachments.Put(ctx, a.record(), a); err != nil {
		return Attachment{}, err
	}
	u.Commit()
	return a, nil
}

// Disconnect detaches a sandbox from a network: all its links there, or only
// ifname if that is not empty. The error wraps [bowline.ErrUnknown] if it is not
// attached. If a plugin fails, the record stays for another try.
func (r *Runtime) Disconnect(ctx context.Context, sandbox, network, ifname string) error {
	unlock, err := r.locks.exclusive(sandboxLock(sandbox))
	if err != nil {
		return err
	}
	defer unlock()
	s, err := r.Sandbox(ctx, sandbox)
	if err != nil {
		return err
	}
	attached, err := r.attachmentsOf(ctx, s.ID)
	if err != nil {
		return err
	}
	found := false
	var errs []error
	for _, a := range attached {
		if a.Network == network && (ifname == "" || ifname == a.IfName) {
			found = true
			errs = append(errs, r.detach(ctx, a, false))
		}
	}
	if !found {
		return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("sandbox %q is not attached to network %q", sandbox, network))
	}
	return errors.Join(errs...)
}

// detach calls the plugins and erases the record of a, whose sandbox the caller
// has locked. With force the record goes even if the plugins fail.
func (r *Runtime) detach(ctx context.Context, a Attachment, force bool) error {
	unlock, err := r.locks.shared(networkLock(a.Network))
	if err != nil {
		return err
	}
	defer unlock()
	if a.Ready {
		a.Ready = false // gc goes on with it if we are killed; a full disk must not keep it there
		_ = r.attachments.Put(ctx, a.record(), a)
	}
	err = r.del(ctx, a)
	if err != nil {
		err = fmt.Errorf("disconnect %s from %s: %w", a.Sandbox, a.Network, err)
		if force {
			err = errors.Join(err, r.attachments.Delete(ctx, a.record()))
		}
	}
	return err
}

// del calls the plugins and then erases the record.
func (r *Runtime) del(ctx context.Context, a Attachment) error {
	list, err := parseConf(a.Conf, "")
	if err != nil {
		return err
	}
	rt := a.runtimeConf()
	if !a.alive() {
		rt.NetNS = "" // the namespace there, if any, is not the one that was attached
	}
	if err := r.cni.DelNetworkList(ctx, list, rt); err != nil {
		return err
	}
	return r.attachments.Delete(ctx, a.record())
}
