package cni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/dhcp"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/plan"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/ipam"
)

// MainDHCP runs the one command that the environment names as an IPAM plugin
// whose addresses are kept by the daemon bowline-dhcp. It returns the exit
// status: 0 done, 1 failed.
func MainDHCP(stdin io.Reader, stdout io.Writer) int {
	return answer("dhcp", stdin, stdout, func(ctx context.Context, c Command) (Config, error) {
		return runIPAM(ctx, c, stdout, func(o op) ipamPlugin { return leased{o} })
	})
}

// leased has addresses kept by the daemon.
type leased struct{ op }

// ask reads the configuration.
func (l leased) ask() (dhcp.Request, dhcp.Client, error) {
	r, path, err := l.dhcpRequest()
	return r, dhcp.Client{Path: path}, err
}

// client is ask for commands that go on whatever else the configuration says.
func (l leased) client() dhcp.Client {
	d, err := readDocument(l.Stdin)
	if err != nil {
		return dhcp.Client{}
	}
	return dhcp.Client{Path: d.in("ipam").text("daemonSocketPath")}
}

// add has the daemon get addresses, and prints them as the part of a result that
// is IPAM's.
func (l leased) add(ctx context.Context, stdout io.Writer) error {
	given, err := l.allocate(ctx, l.Netns)
	if err != nil {
		return err
	}
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, DNS: given.dns}
	for _, ip := range given.ips {
		c := &types100.IPConfig{Address: ipNet(ip.addr)}
		if ip.gateway.IsValid() {
			c.Gateway = ip.gateway.AsSlice()
		}
		result.IPs = append(result.IPs, c)
	}
	for _, route := range given.routes {
		result.Routes = append(result.Routes, toRoute(route))
	}
	if err := printResult(stdout, result, l.CNIVersion); err != nil { // nobody will know the addresses
		return errors.Join(err, l.release(context.WithoutCancel(ctx)))
	}
	return nil
}

// oldVersion refuses what results before 0.3.0 may not be able to say.
func oldVersion(v string, r dhcp.Request) error {
	if (v == "0.1.0" || v == "0.2.0") && r.IPv6 == dhcp.IPv6Auto {
		return invalid("network %q: ipam: ipv6=\"auto\": cniVersion %s has room for one IPv6 address; want a cniVersion of at least 0.3.0, or ipv6 \"dhcp\" or \"off\"", r.Network, v)
	}
	return nil
}

func (l leased) delegate() string { return ownDHCP }

// allocate has the daemon get addresses for the link, which is there already.
func (l leased) allocate(ctx context.Context, _ string) (lease, error) {
	r, client, err := l.ask()
	if err == nil {
		err = oldVersion(l.CNIVersion, r)
	}
	if err != nil {
		return lease{}, err
	}
	if dry := dryOf(ctx); dry != nil {
		dry.Plan.Add(plan.Note, "host", "the addresses are for the LAN's DHCP server to choose: what depends on them is not in this plan")
		return lease{}, nil
	}
	got, err := client.Acquire(ctx, r)
	return leaseFrom(got), dhcpError(err, CodeTryAgain)
}

// check wants a lease that has not expired; the link is looked at by others.
// instead cannot be asked: the daemon has probed, and declined what others use.
func (l leased) instead(_ context.Context, _ string, used []ipam.Conflict) (lease, error) {
	return lease{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: the address that the DHCP server gave cannot be used: %s", l.Config.Name, conflictText(used)))
}

func (l leased) check(ctx context.Context, _ addrs) error {
	_, err := l.client().Get(ctx, l.dhcpKey())
	return dhcpError(err, CodeTryAgain)
}

func (l leased) gc(ctx context.Context, _ map[string]bool) error { return l.collect(ctx) }

func (l leased) status(ctx context.Context) error { return l.ready(ctx) }

// release succeeds if the daemon does not run: the lease is on record, and the
// daemon will give it up when it runs again and finds the sandbox gone.
func (l leased) release(ctx context.Context) error {
	if dry := dryOf(ctx); dry != nil {
		dry.Plan.Add(plan.Note, "host", "the lease is given back to the DHCP server")
		return nil
	}
	err := l.client().Release(ctx, l.dhcpKey(), 0)
	var down *dhcp.NotRunningError
	if errors.As(err, &down) {
		slog.WarnContext(ctx, "the lease is not released before the daemon runs again", "error", err)
		return nil
	}
	return dhcpError(err, 0)
}

// checkReserved wants a lease that has not expired, and its addresses on the
// link. Those of prevResult may be others: servers change them.
func (l leased) checkReserved(ctx context.Context) error {
	_, client, err := l.ask()
	if err != nil {
		return err
	}
	got, err := client.Get(ctx, l.dhcpKey())
	if err != nil {
		return dhcpError(err, CodeTryAgain)
	}
	sandbox, err := netns.Open(l.Netns)
	if err != nil {
		return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("CNI_NETNS=%q: %v", l.Netns, err))
	}
	defer sandbox.Close()
	found, err := DiffSandbox(ctx, sandbox, bowline.Attachment{Link: l.IfName, Addrs: got.Prefixes()}, nil)
	if err != nil {
		return err
	}
	// Down, and IPv6 or not, is the main plugin's business.
	found = slices.DeleteFunc(found, func(d bowline.Difference) bool { return d.Key != "address" && d.Place != "sandbox" })
	return bowline.FirstDifference(fmt.Sprintf("network %q, container %s as %s: dhcp", l.Config.Name, l.ContainerID, l.IfName), found)
}

func (l leased) collect(ctx context.Context) error {
	if l.Valid == nil {
		return nil // absent is not empty: libcni leaves the key out when it does not know
	}
	ids := []string{}
	for _, a := range l.Valid {
		ids = append(ids, a.ContainerID+"/"+a.IfName)
	}
	err := l.client().Collect(ctx, l.Config.Name, ids)
	var down *dhcp.NotRunningError
	if errors.As(err, &down) { // as in release
		slog.WarnContext(ctx, "leases are not released before the daemon runs again", "error", err)
		return nil
	}
	return dhcpError(err, 0)
}

func (l leased) ready(ctx context.Context) error {
	_, client, err := l.ask()
	if err != nil {
		return err
	}
	return dhcpError(client.Status(ctx), CodeUnavailable)
}

// dhcpError gives what the daemon said the code that it said, and has code stand
// for a daemon that does not run.
func dhcpError(err error, code uint) error {
	var said *socket.CallError
	var down *dhcp.NotRunningError
	switch {
	case errors.As(err, &said) && said.Code != 0:
		return &Error{Code: uint(said.Code), Msg: said.Text}
	case errors.As(err, &down) && code != 0:
		return &Error{Code: code, Msg: down.Error()}
	}
	return err
}
