package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/bowline-net/bowline"
)

// Status asks the plugins of a network whether they could attach a sandbox now.
// A nil error means yes, or that they are of a CNI version before 1.1.0. Else the
// error wraps [bowline.ErrUnavailable], or [bowline.ErrDegraded] if containers
// that are attached may suffer, too.
func (r *Runtime) Status(ctx context.Context, network string) error {
	n, err := r.Network(ctx, network)
	if err != nil {
		return err
	}
	list, err := n.list()
	if err != nil {
		return err
	}
	err = r.cni.GetStatusNetworkList(ctx, list)
	if err == nil {
		return nil
	}
	cause := bowline.ErrUnavailable
	var said *types.Error
	if errors.As(err, &said) && said.Code == types.ErrLimitedConnectivity {
		cause = bowline.ErrDegraded
	}
	return bowline.Wrong(cause, fmt.Sprintf("network %q: %v", network, err))
}

// A Finding is an attachment that is not as it was left.
type Finding struct {
	Sandbox string `json:"sandbox"`
	Network string `json:"network"`
	IfName  string `json:"ifname"`
	Problem string `json:"problem"`
}

// Check has the plugins compare the attachments of a sandbox, or of all if
// sandbox is empty, with what they made. It returns how many it looked at and
// what differs.
func (r *Runtime) Check(ctx context.Context, sandbox string) (checked int, found []Finding, err error) {
	if sandbox != "" {
		if _, err := r.Sandbox(ctx, sandbox); err != nil {
			return 0, nil, err
		}
	}
	attached, err := r.Attachments(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, a := range attached {
		if sandbox != "" && a.Sandbox != sandbox {
			continue
		}
		checked++
		if err := r.check(ctx, a); err != nil {
			found = append(found, Finding{a.Sandbox, a.Network, a.IfName, err.Error()})
		}
	}
	return checked, found, ctx.Err()
}

func (r *Runtime) check(ctx context.Context, a Attachment) error {
	unlock, err := r.locks.shared(networkLock(a.Network))
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case !a.alive():
		return fmt.Errorf("its namespace is gone")
	case !a.Ready:
		return fmt.Errorf("it was never finished")
	}
	list, err := parseConf(a.Conf, "")
	if err != nil {
		return err
	}
	err = r.cni.CheckNetworkList(ctx, list, a.runtimeConf())
	if errors.Is(err, libcni.ErrorCheckNotSupp) {
		return nil // CHECK came with CNI 0.4.0
	}
	return err
}
