package nft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Handle works on the tables of one namespace. Its methods may be called from
// several goroutines at once.
type Handle struct {
	ns   bowline.Namespace // nil: the namespace of the process
	mu   sync.Mutex        // one transaction at a time, for the library collects them in the connection
	conn *nftables.Conn    // opened at first use
	raw  syscall.RawConn   // conn's socket
	dry  *dry              // not nil: nothing is changed
	// For the policies of a sandbox, by way of Sandbox.
	sandbox bool
}

// Open returns a handle on the tables of ns, or of the process's namespace if
// ns is nil. ns must stay open as long as the handle.
func Open(ns bowline.Namespace) *Handle { return &Handle{ns: ns} }

// Close closes the handle's socket; the tables stay.
func (h *Handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return nil
	}
	c := h.conn
	h.conn = nil
	return c.CloseLasting()
}

// Socket returns the handle's socket, or -1 if nothing has been asked yet.
// Closing it after elements were deleted waits for the kernel, see the package
// comment; a process that must not wait can leave it to another.
func (h *Handle) Socket() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	socket := -1
	if h.conn != nil && h.raw != nil {
		_ = h.raw.Control(func(fd uintptr) { socket = int(fd) })
	}
	return socket
}

// batchBytes is the most that a transaction, and the answers to it, may have:
// the kernel takes it as one message, and answers before anybody reads. The
// rules of policies come to 100 KB, a policy of thousands to more.
const batchBytes = 16 << 20

// building is held while a transaction is put together: the library numbers
// sets by a variable that all connections of a process share.
var building sync.Mutex

// with runs f with the handle's connection, which is f's own meanwhile.
func (h *Handle) with(f func(*nftables.Conn) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	building.Lock()
	defer building.Unlock()
	if h.conn == nil && h.dry != nil {
		c, err := h.dry.dial(h)
		if err != nil {
			return err
		}
		h.conn = c
	}
	if h.conn == nil {
		opts := []nftables.ConnOption{nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) (err error) {
			if h.raw, err = c.SyscallConn(); err != nil {
				return err
			}
			return errors.Join(c.SetWriteBuffer(batchBytes), c.SetReadBuffer(batchBytes))
		})}
		if h.ns != nil {
			opts = append(opts, nftables.WithNetNSFd(int(h.ns.Fd())))
		}
		c, err := nftables.New(opts...)
		if err != nil {
			return err
		}
		h.conn = c
	}
	err := f(h.conn)
	if err != nil && !notExist(err) {
		// Answers that nobody read would be taken for those of the next call.
		_ = h.conn.CloseLasting()
		h.conn = nil
	}
	return err
}

// A Network is what the tables know of a network.
type Network struct {
	ID       string
	Bridge   string // its interface in the host
	V4, V6   bool   // families it has
	Internal bool   // nothing passes between it and anything else
	ICC      bool   // its containers may reach each other through the host's IP stack
	// What of it can be reached from beyond it.
	Access4, Access6 Access
	Open             bool     // our other networks reach all of it
	Trusted          []string // links from which open ports can be reached in any case
	// Masq are prefixes whose addresses hide behind the host's where traffic
	// leaves them.
	Masq       []netip.Prefix
	Publishing Publishing // of its endpoints' ports
}

// An Endpoint is what the tables know of an endpoint.
type Endpoint struct {
	ID   string
	Port string           // host end of its veth
	MAC  net.HardwareAddr // nil: not checked; else the only sender address that Port may use
	// Closed are addresses of it that can be reached by published ports only, on
	// a network with AccessPublished.
	Closed []netip.Addr
	Open   []Service            // what can be reached directly where not everything can
	Policy []bowline.PolicyRule // with Peers in place of Network; none: everything passes
	Ports  []Port               // of the host that lead to it; no two overlap
	// Unsure says that there may be elements that the rest does not tell of.
	Unsure bool
}

// An element to add or delete, with its set.
type element struct {
	set *nftables.Set
	nftables.SetElement
}

// EnsureNetwork adds the network's elements, and tables, chains, rules and sets
// where they are missing. The error wraps [bowline.ErrConflict] if the bridge
// is there with another policy, and [bowline.ErrNoKernel] if the kernel has no
// nftables.
func (h *Handle) EnsureNetwork(ctx context.Context, n Network) error {
	return h.ensure(ctx, fmt.Sprintf("add firewall elements of network %q", n.ID), n.elements(), func(c *nftables.Conn) error {
		n.setUp(c)
		return nil
	})
}

// EnsureEndpoint adds the elements of the endpoint and of its network in one
// transaction. Errors are as in EnsureNetwork, or a [*TakenError] if another
// endpoint has one of its ports.
func (h *Handle) EnsureEndpoint(ctx context.Context, n Network, e Endpoint) error {
	what := fmt.Sprintf("add firewall elements of endpoint %q", e.ID)
	elements := slices.Concat(n.elements(), e.shared(n), e.publishingElements(n), e.elements(n), e.policyElements(h.site(), n))
	return h.explain(what, e, h.ensure(ctx, what, elements, func(c *nftables.Conn) error {
		n.setUp(c)
		e.setUp(c)
		e.setUpPorts(c, n)
		return e.setUpPolicy(c, h.site())
	}))
}

// ensure first tries to add the elements alone, which is all it takes unless
// the tables are new or somebody flushed them.
func (h *Handle) ensure(ctx context.Context, what string, elements []element, setUp func(*nftables.Conn) error) error {
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
	err = h.with(func(c *nftables.Conn) error {
		err := flush(c, elements, (*nftables.Conn).SetAddElements)
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err := unowned(c, familiesOf(elements)...); err != nil {
			return err
		}
		if err = setUp(c); err == nil {
			err = flush(c, elements, (*nftables.Conn).SetAddElements)
		}
		return err
	})
	if errors.Is(err, unix.EPERM) { // perhaps because of whose table it is
		if cause := h.with(func(c *nftables.Conn) error { return unowned(c, familiesOf(elements)...) }); cause != nil {
			err = cause
		}
	}
	return failure(what, err)
}

func flush(c *nftables.Conn, elements []element, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if err := queue(c, elements, do); err != nil {
		return err
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
		pair, from := accepts(), leadsTo(fromOpen)
		if !n.ICC { // they may still reach what is published to everybody
			pair = leadsTo(toNAT)
		}
		if n.Internal {
			from = drops()
		}
		es = append(es, pair.element(f.pair(), append(name16(n.Bridge), bridge...)), from.element(f.from(), bridge))
		es = append(es, n.entrances(f)...)
	}
	for _, p := range n.Masq {
		es = append(es, element{familyOf(p).masq(), nftables.SetElement{
			Key:         append(name16(n.Bridge), p.Masked().Addr().AsSlice()...),
			KeyEnd:      append(name16(n.Bridge), last(p)...),
			VerdictData: verdict(expr.VerdictJump, masqChainName(p)),
			Comment:     "jump " + masqChainName(p),
		}})
	}
	return es
}

// last is the last address of the prefix.
func last(p netip.Prefix) []byte {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}

func (e Endpoint) elements(n Network) []element {
	es := append(e.entrances(n), e.portElements(n)...)
	key := comments(n.ID, e.ID)
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
	for _, p := range n.Masq {
		ch := familyOf(p).masqChain(p)
		c.AddChain(ch.Chain)
		ch.fill(c)
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
