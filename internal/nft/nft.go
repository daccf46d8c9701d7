package nft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Handle works on the tables of one namespace. It holds nothing open.
type Handle struct {
	ns bowline.Namespace // nil: the namespace of the process
}

// Open returns a handle on the tables of ns, or of the process's namespace if
// ns is nil. ns must stay open as long as the handle.
func Open(ns bowline.Namespace) *Handle { return &Handle{ns} }

// A Network is what the tables know of a network.
type Network struct {
	ID       string
	Bridge   string // its interface in the host
	V4, V6   bool   // families it has
	Internal bool   // nothing passes between it and anything else
	ICC      bool   // its containers may reach each other through the host's IP stack
}

// An Endpoint is what the tables know of an endpoint.
type Endpoint struct {
	ID   string
	Masq []netip.Prefix   // addresses to hide behind the host's, with the prefix inside which they are not
	Port string           // host end of its veth
	MAC  net.HardwareAddr // nil: not checked; else the only sender address that Port may use
}

// An element to add or delete, with its set.
type element struct {
	set *nftables.Set
	nftables.SetElement
}

// A conn collects one transaction.
func (h *Handle) conn() (*nftables.Conn, error) {
	var opts []nftables.ConnOption
	if h.ns != nil {
		opts = append(opts, nftables.WithNetNSFd(int(h.ns.Fd())))
	}
	return nftables.New(opts...)
}

// EnsureNetwork adds the network's elements, and tables, chains, rules and sets
// where they are missing. The error wraps [bowline.ErrConflict] if the bridge
// is there with another policy, and [bowline.ErrNoKernel] if the kernel has no
// nftables.
func (h *Handle) EnsureNetwork(ctx context.Context, n Network) error {
	return h.ensure(ctx, fmt.Sprintf("add firewall elements of network %q", n.ID), n.elements(), func(c *nftables.Conn) { n.setUp(c) })
}

// EnsureEndpoint adds the elements of the endpoint and of its network in one
// transaction. Errors are as in EnsureNetwork; a conflict can also be that the
// address is another endpoint's.
func (h *Handle) EnsureEndpoint(ctx context.Context, n Network, e Endpoint) error {
	for _, p := range e.Masq { // the tables of these families must be there
		n.V4, n.V6 = n.V4 || p.Addr().Is4(), n.V6 || p.Addr().Is6()
	}
	elements := append(n.elements(), e.elements(n)...)
	return h.ensure(ctx, fmt.Sprintf("add firewall elements of endpoint %q", e.ID), elements, func(c *nftables.Conn) {
		n.setUp(c)
		e.setUp(c)
	})
}

// ensure first tries to add the elements alone, which is all it takes unless
// the tables are new or somebody flushed them.
func (h *Handle) ensure(ctx context.Context, what string, elements []element, setUp func(*nftables.Conn)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(elements) == 0 {
		return nil
	}
	unlock, err := h.lock(unix.LOCK_SH)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	c, err := h.conn()
	if err != nil {
		return failure(what, err)
	}
	err = flush(c, elements, (*nftables.Conn).SetAddElements)
	if errors.Is(err, unix.ENOENT) {
		setUp(c)
		err = flush(c, elements, (*nftables.Conn).SetAddElements)
	}
	return failure(what, err)
}

func flush(c *nftables.Conn, elements []element, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	for _, e := range elements {
		if err := do(c, e.set, []nftables.SetElement{e.SetElement}); err != nil {
			return err
		}
	}
	return c.Flush()
}

// failure wraps err with what was being done and a cause that callers know.
func failure(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%s: %w: an element exists with another meaning (%w)", what, bowline.ErrConflict, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s: %w: nftables (%w)", what, bowline.ErrNoKernel, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (n Network) families() []family {
	var fs []family
	if n.V4 {
		fs = append(fs, ipv4())
	}
	if n.V6 {
		fs = append(fs, ipv6())
	}
	return fs
}

// elements returns the network's elements, each with its verdict as comment.
func (n Network) elements() []element {
	var es []element
	bridge := name16(n.Bridge)
	for _, f := range n.families() {
		pair, from := verdict(expr.VerdictAccept, ""), verdict(expr.VerdictGoto, fromOpen)
		icc, out := "accept", "goto "+fromOpen
		if !n.ICC {
			pair, icc = verdict(expr.VerdictDrop, ""), "drop"
		}
		if n.Internal {
			from, out = verdict(expr.VerdictDrop, ""), "drop"
			es = append(es, element{f.to(), nftables.SetElement{Key: bridge, VerdictData: verdict(expr.VerdictDrop, ""), Comment: "drop"}})
		}
		es = append(es,
			element{f.pair(), nftables.SetElement{Key: append(name16(n.Bridge), bridge...), VerdictData: pair, Comment: icc}},
			element{f.from(), nftables.SetElement{Key: bridge, VerdictData: from, Comment: out}},
			element{f.bridges(), nftables.SetElement{Key: bridge}},
		)
	}
	return es
}

func (e Endpoint) elements(n Network) []element {
	var es []element
	key := comments(n.ID, e.ID)
	for _, p := range e.Masq {
		f := familyOf(p)
		es = append(es, element{f.masq(), nftables.SetElement{
			Key:         append(name16(n.Bridge), p.Addr().AsSlice()...),
			VerdictData: verdict(expr.VerdictJump, masqChainName(p)),
			Comment:     key,
		}})
	}
	if e.MAC != nil {
		es = append(es,
			element{allowed(), nftables.SetElement{Key: append(name16(e.Port), append(append([]byte{}, e.MAC...), 0, 0)...), Comment: key}},
			element{guarded(), nftables.SetElement{Key: name16(e.Port), Comment: key}},
		)
	}
	return es
}

func familyOf(p netip.Prefix) family {
	if p.Addr().Is4() {
		return ipv4()
	}
	return ipv6()
}

// setUp adds what the network's elements need. Adding what is there is no
// change but for rules: so their chains are emptied first, in the same
// transaction, and no packet ever sees them empty.
func (n Network) setUp(c *nftables.Conn) {
	for _, f := range n.families() {
		f.setUp(c)
	}
}

func (f family) setUp(c *nftables.Conn) {
	c.AddTable(f.table)
	for _, s := range f.sets() {
		_ = c.AddSet(s, nil) // fails for anonymous sets only
	}
	chains := f.chains()
	for _, ch := range chains {
		c.AddChain(ch.Chain)
	}
	for _, ch := range chains {
		ch.fill(c)
	}
}

func (e Endpoint) setUp(c *nftables.Conn) {
	for _, p := range e.Masq {
		ch := familyOf(p).masqChain(p)
		c.AddChain(ch.Chain)
		ch.fill(c)
	}
	if e.MAC != nil {
		c.AddTable(bridgeTable())
		_ = c.AddSet(guarded(), nil)
		_ = c.AddSet(allowed(), nil)
		ch := bridgeChain()
		c.AddChain(ch.Chain)
		ch.fill(c)
	}
}

func (ch chain) fill(c *nftables.Conn) {
	c.FlushChain(ch.Chain)
	for _, r := range ch.rules {
		c.AddRule(&nftables.Rule{Table: ch.Table, Chain: ch.Chain, Exprs: r.exprs, UserData: comment(r.text)})
	}
}
