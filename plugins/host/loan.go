package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
)

// A loan is the record of a NIC that a container has, with all that it takes to
// put it back. It is written before the NIC is touched and erased when it is
// back. A NIC is the only thing of ours that must survive its container, so this
// driver remembers what no other does.
type loan struct {
	Network  string        `json:"network"`
	Endpoint string        `json:"endpoint"`
	Name     string        `json:"name"` // in the host
	Index    int           `json:"index"`
	Kind     string        `json:"kind,omitempty"` // empty: a NIC, which the kernel never throws away
	MAC      string        `json:"mac"`
	MTU      int           `json:"mtu"`
	Up       bool          `json:"up"`
	Alias    string        `json:"alias,omitempty"`
	Master   string        `json:"master,omitempty"` // name of the link that it is a port of
	Device   string        `json:"device,omitempty"` // below /sys/devices
	Settings link.Settings `json:"settings"`
	Counters link.Counters `json:"counters"`         // when it went
	IfName   string        `json:"ifname,omitempty"` // in the sandbox; empty: the engine names it
	Docker   bool          `json:"docker,omitempty"` // moved by dockerd, there and back
	Sandbox  string        `json:"sandbox,omitempty"`
	NetnsIno uint64        `json:"netnsIno,omitempty"`
	Pin      string        `json:"pin,omitempty"` // where its namespace is mounted so that it outlives the container; empty: nowhere
	// Limited and Restricted say that there may be what the sandbox must not keep.
	Limited    bool `json:"limited,omitempty"`
	Restricted bool `json:"restricted,omitempty"`
}

// loans are the records, and where namespaces are pinned.
type loans struct {
	store state.Store
	pins  string
}

// openLoans returns those below [state.Run]: they end at reboot, as namespaces do.
func openLoans() loans { return loans{state.Run("host", "loans"), state.Run("host", "pins").Dir} }

// lock keeps others from moving NICs until unlock is called. All that moves any
// takes turns: two may want the same one, by different names.
func (s loans) lock() (unlock func(), err error) { return s.store.Lock("loans") }

func loanName(network, endpoint string) string {
	return state.Key(network) + "/" + state.Key(endpoint)
}

// pin is where the namespace of an endpoint is mounted.
func (s loans) pin(network, endpoint string) string {
	return filepath.Join(s.pins, bowline.LinkName("pin", network, endpoint))
}

func (s loans) put(ctx context.Context, l loan) error {
	return s.store.Put(ctx, loanName(l.Network, l.Endpoint), l)
}

// get returns the loan; there is false if there is none. A damaged record is set
// aside, and the NIC is still found by its alias.
func (s loans) get(ctx context.Context, network, endpoint string) (l loan, there bool, err error) {
	err = s.store.Get(ctx, loanName(network, endpoint), &l)
	var damaged *state.DamagedError
	switch {
	case errors.As(err, &damaged):
		slog.WarnContext(ctx, "a damaged record was set aside", "record", damaged.Path, "kept", damaged.Kept, "reason", damaged.Reason)
		return loan{}, false, nil
	case errors.Is(err, fs.ErrNotExist):
		return loan{}, false, nil
	}
	return l, err == nil, err
}

func (s loans) delete(ctx context.Context, l loan) error {
	return s.store.Delete(ctx, loanName(l.Network, l.Endpoint))
}

// sweep removes what killed writers of the network's loans left. Nobody writes one
// meanwhile who has not the lock.
func (s loans) sweep(network string) error { return s.store.Sweep(state.Key(network), 0) }

// all returns the loans of a network, of all networks if that is empty.
func (s loans) all(ctx context.Context, network string) ([]loan, error) {
	dirs := []string{state.Key(network)}
	if network == "" {
		var err error
		if dirs, err = s.store.Dirs(ctx, ""); err != nil {
			return nil, err
		}
	}
	var all []loan
	for _, dir := range dirs {
		names, err := s.store.List(ctx, dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			var l loan
			switch err := s.store.Get(ctx, name, &l); {
			case err == nil:
				all = append(all, l)
			case errors.Is(err, bowline.ErrDamaged):
				slog.WarnContext(ctx, "a damaged record was set aside", "error", err)
			case !errors.Is(err, fs.ErrNotExist):
				return nil, err
			}
		}
	}
	return all, nil
}

// mark starts the alias of every NIC that is lent. The alias stays with the NIC
// wherever it goes, under whatever name it comes back.
const mark = "bowline device "

// alias names the NIC as it was in the host, and whose it is: by these it is
// put back, if need be without its record.
func alias(name, network, endpoint string) string {
	return mark + name + " " + shown(network) + "/" + shown(endpoint)
}

func (l loan) alias() string { return alias(l.Name, l.Network, l.Endpoint) }

// parseAlias returns what the alias says; ok is false if it is none of ours.
func parseAlias(s string) (name, holder string, ok bool) {
	rest, ok := strings.CutPrefix(s, mark)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, " ")
}

// shown is an ID as far as an alias has room for it, 255 bytes in all. A long one
// ends in a hash, so that no two look the same.
func shown(id string) string {
	if len(id) <= 100 {
		return id
	}
	return id[:80] + "~" + bowline.LinkName("", id)
}

// in returns the loan with the sandbox that the NIC is known to be in.
func (l loan) in(sandbox bowline.Namespace) loan {
	if h, ok := sandbox.(*netns.Handle); ok && l.Sandbox == "" {
		if id, err := h.ID(); err == nil {
			l.Sandbox, l.NetnsIno = h.Path(), id.Ino
		}
	}
	return l
}

// alive reports whether the sandbox that the NIC went to is still there, as far
// as is known.
func (l loan) alive() bool {
	id, ok := netns.Stat(l.Sandbox)
	return ok && (l.NetnsIno == 0 || id.Ino == l.NetnsIno)
}
