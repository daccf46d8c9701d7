package endpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plan"
)

// An Inside is the link of an endpoint that has no end in the host. What is kept
// elsewhere at that end, limits and policy, is kept in the sandbox.
type Inside struct {
	Links *link.Handle      // of the sandbox
	NS    bowline.Namespace // the sandbox
	Name  string            // of the link there
	Plan  *plan.Plan        // not nil: nothing is changed, but written there
}

// IFB names the link of the sandbox that what the endpoint receives waits at.
func IFB(network, endpoint string) string { return bowline.LinkName("bwf", network, endpoint) }

// limits are e's rates as the link in the sandbox has them: what comes in there
// is what comes to the endpoint.
func (i Inside) limits(n bowline.NetworkConfig, e bowline.EndpointSpec) link.Limits {
	l := Limits(n, e, IFB(n.ID, e.ID))
	l.Out, l.In = l.In, l.Out
	return l
}

func (i Inside) rules() *nft.Sandbox {
	if i.Plan != nil {
		return nft.OpenDrySandbox(i.NS, i.Plan)
	}
	return nft.OpenSandbox(i.NS)
}

// ValidateInside refuses what the kernel cannot do both in a sandbox: what waits at
// an ifb for its turn comes back behind the hook where a policy decides, and so
// past it.
func ValidateInside(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if e.Rates.IngressRate == 0 || len(e.Policy) == 0 {
		return nil
	}
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
		"network %q: endpoint %q: ingressRate=%d and a policy: want one of them, for what comes to this kind of link would come past its policy; egressRate goes with both", n.ID, e.ID, e.Rates.IngressRate))
}

// Settle makes sure of the endpoint's limits and policy, as far as it has any.
func (i Inside) Settle(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if e.Rates != (bowline.Rates{}) {
		if err := i.Shape(ctx, n, e); err != nil {
			return err
		}
	}
	if len(e.Policy) == 0 {
		return nil
	}
	if err := Resolved(e.ID, e.Policy); err != nil {
		return err
	}
	rules := i.rules()
	defer rules.Close()
	return rules.EnsureEndpoint(ctx, n.ID, i.of(e))
}

func (i Inside) of(e bowline.EndpointSpec) nft.Endpoint {
	return nft.Endpoint{ID: e.ID, Port: i.Name, Policy: e.Policy}
}

// Shape makes the limits those of e, in place of any that there were.
func (i Inside) Shape(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	return i.Links.Limit(ctx, i.Name, i.limits(n, e))
}

// Enforce makes the policy that of e, in place of any that there was.
func (i Inside) Enforce(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	rules := i.rules()
	defer rules.Close()
	return rules.ReplacePolicy(ctx, n.ID, i.of(e))
}

// EndPolicy removes the policy, and all that is ours in the sandbox's firewall
// with the last. It needs no link, and succeeds if there is nothing.
func (i Inside) EndPolicy(ctx context.Context, network, endpoint string) error {
	rules := i.rules()
	defer rules.Close()
	return rules.DeleteEndpoint(ctx, network, endpoint)
}

// Unsettle removes what stays in the sandbox when an engine takes the link out.
func (i Inside) Unsettle(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	err := i.Links.DeleteIf(ctx, OwnIFB, IFB(n.ID, e.ID))
	if len(e.Policy) > 0 {
		err = errors.Join(err, i.EndPolicy(ctx, n.ID, e.ID))
	}
	return err
}

// Diff compares limits and policy. Limits of an endpoint that is to have none are
// nobody's business: another plugin of the chain may have made them.
func (i Inside) Diff(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) (ds []bowline.Difference, err error) {
	if e.Rates != (bowline.Rates{}) {
		if ds, err = i.Links.CheckLimits(ctx, i.Name, i.limits(n, e)); err != nil {
			return ds, err
		}
	}
	if len(e.Policy) == 0 {
		return ds, nil
	}
	rules := i.rules()
	defer rules.Close()
	seen, err := rules.Snapshot(ctx)
	if err != nil {
		return ds, err
	}
	defer seen.Close()
	more, err := seen.DiffEndpoint(ctx, nft.Network{ID: n.ID}, i.of(e))
	return append(ds, more...), err
}

// Repair makes limits and policy right.
func (i Inside) Repair(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := i.Settle(ctx, n, e); err != nil || len(e.Policy) == 0 {
		return err
	}
	rules := i.rules()
	defer rules.Close()
	seen, err := rules.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer seen.Close()
	_, err = seen.RepairEndpoint(ctx, nft.Network{ID: n.ID}, i.of(e))
	return err
}

// Count adds what only the sandbox can tell: what limits dropped, and how often
// the policy was met.
func (i Inside) Count(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec, c *bowline.Counts) error {
	if e.Rates != (bowline.Rates{}) {
		drops, err := i.Links.QueueDrops(ctx)
		if err != nil {
			return err
		}
		c.SentDrops += drops[i.Name]
		c.ReceivedDrops += drops[IFB(n.ID, e.ID)]
	}
	if len(e.Policy) == 0 {
		return nil
	}
	rules := i.rules()
	defer rules.Close()
	hits, err := rules.PolicyHits(ctx)
	c.Policy = PolicyCounts(e, hits[i.Name])
	return err
}
