package nft

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	todo "github.com/bowline-net/bowline/internal/plan"
)

// A Sandbox keeps the policies of endpoints whose link has no other end in the
// host, such as a macvlan: in a table of the sandbox, hooked to the link there.
//
//	table netdev bowline {                         # as the bridge family's of policies, and
//	  map policy-other { ifname : verdict }        neither IP nor ARP, from a link: goto policy-PLAN-NUMBER
//	  chain egress-LINK  { hook egress device LINK; IP or ARP, oifname vmap @policy-from; oifname vmap @policy-other }
//	  chain ingress-LINK { hook ingress device LINK; iifname vmap @policy-to }
//	}
//
// Nothing of ours is in a sandbox without policies, and nothing stays. It takes
// hooks for what leaves a link, which Linux has since 5.16. Before 6.16 a hook
// goes with its link and must be made again, by [Snapshot.RepairEndpoint]; since
// then it waits for the next link of that name.
//
// What a policy keeps from a container, its packet sockets see nevertheless. A
// container with CAP_NET_ADMIN can remove the table. One with CAP_NET_RAW can
// send by AF_XDP past all hooks.
type Sandbox struct{ h *Handle }

// OpenSandbox returns a handle on the policies in ns, which must stay open as
// long as the handle. One process of ours at a time changes an endpoint's.
func OpenSandbox(ns bowline.Namespace) *Sandbox { return &Sandbox{&Handle{ns: ns, sandbox: true}} }

// OpenDrySandbox returns a handle that changes nothing, as OpenDry does. A nil ns
// is a sandbox that is not there yet.
func OpenDrySandbox(ns bowline.Namespace, p *todo.Plan) *Sandbox {
	s := OpenSandbox(ns)
	s.h.dry = &dry{plan: p, where: "sandbox", sets: map[setName]keyType{}, deaf: ns == nil}
	return s
}

// Close closes the handle's socket; the policies stay.
func (s *Sandbox) Close() error { return s.h.Close() }

// Socket is [Handle.Socket].
func (s *Sandbox) Socket() int { return s.h.Socket() }

// Snapshot returns a look at the tables of the sandbox. Of it only DiffEndpoint
// and RepairEndpoint are meant for sandboxes.
func (s *Sandbox) Snapshot(ctx context.Context) (*Snapshot, error) { return s.h.Snapshot(ctx) }

// PolicyHits is [Handle.PolicyHits], by link.
func (s *Sandbox) PolicyHits(ctx context.Context) (map[string][]Hit, error) {
	return s.h.PolicyHits(ctx)
}

// EnsureEndpoint makes sure of the endpoint's policy, in one transaction; of one
// without policy nothing. Of e only ID, Port, which is its link in the sandbox,
// and Policy count.
//
// The error wraps [bowline.ErrConflict] if the endpoint has another policy, or
// somebody else a table of our name; [bowline.ErrUnknown] if there is no such
// link, on kernels before 6.16; [bowline.ErrNoKernel] if the kernel has no hooks
// for what leaves a link.
func (s *Sandbox) EnsureEndpoint(ctx context.Context, network string, e Endpoint) error {
	what := fmt.Sprintf("add the policy of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(e.Policy) == 0 {
		return nil
	}
	elements := e.policyElements(inSandbox(), Network{ID: network})
	return s.h.linkFailure(what, e.Port, s.h.with(func(c *nftables.Conn) error {
		if err := unowned(c, nftables.TableFamilyNetdev); err != nil {
			return err
		}
		if err := e.setUpPolicy(c, inSandbox()); err != nil {
			return err
		}
		return flush(c, elements, (*nftables.Conn).SetAddElements)
	}))
}

// ReplacePolicy makes the endpoint's policy e.Policy, in place of what it was, in
// one transaction, and forgets what it had allowed. Its counts start anew. Errors
// are as in EnsureEndpoint.
func (s *Sandbox) ReplacePolicy(ctx context.Context, network string, e Endpoint) error {
	what := fmt.Sprintf("replace the policy of endpoint %q", e.ID)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	prefix := networkTag(network) + tag(e.ID)
	if len(e.Policy) == 0 {
		return failure(what, s.h.with(func(c *nftables.Conn) error { return s.h.takeOut(c, prefix) }))
	}
	t := inSandbox()
	elements := e.policyElements(t, Network{ID: network})
	return s.h.linkFailure(what, e.Port, s.h.with(func(c *nftables.Conn) error {
		if err := unowned(c, nftables.TableFamilyNetdev); err != nil {
			return err
		}
		was, err := t.policyElementsOf(c, prefix)
		if err != nil {
			return err
		}
		for _, ch := range hooksOf(was, e.Port) {
			c.FlushChain(ch)
			c.DelChain(ch)
		}
		if err := queue(c, was, (*nftables.Conn).SetDeleteElements); err != nil {
			return err
		}
		if err := e.setUpPolicy(c, t); err != nil {
			return err
		}
		if err := flush(c, elements, (*nftables.Conn).SetAddElements); err != nil {
			return err
		}
		if err := t.forgetFlows(c, e.Port); err != nil {
			return err
		}
		return s.h.tidy(c)
	}))
}

// DeleteEndpoint removes the endpoint's policy, and the table with the last one.
// It succeeds if there is none.
func (s *Sandbox) DeleteEndpoint(ctx context.Context, network, endpoint string) error {
	what := fmt.Sprintf("delete the policy of endpoint %q", endpoint)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return failure(what, s.h.with(func(c *nftables.Conn) error { return s.h.takeOut(c, networkTag(network)+tag(endpoint)) }))
}

// linkFailure is failure for what is hooked to a link.
func (h *Handle) linkFailure(what, link string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT) && !h.hasLink(link):
		return fmt.Errorf("%s: link %s: %w", what, link, bowline.ErrUnknown)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: %w: nftables at what leaves a link, which is CONFIG_NETFILTER_EGRESS of Linux 5.16 (%w)", what, bowline.ErrNoKernel, err)
	}
	return failure(what, err)
}

// hasLink reports whether the namespace has a link of that name.
func (h *Handle) hasLink(name string) (has bool) {
	err := h.inside(func() error {
		_, err := net.InterfaceByName(name)
		has = err == nil
		return nil
	})
	return has || err != nil
}
