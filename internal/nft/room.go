package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/bowline-net/bowline/internal/netns"
)

// A verdict to accept in our table does not overrule a drop in another's. When
// Docker has set the policy of iptables' FORWARD chain to drop, traffic of our
// bridges needs an exception in the chain that Docker leaves to others,
// DOCKER-USER. Ours are in a chain of our own, so that they can be told from
// the user's, and each names its bridge. firewalld rejects what it has no zone
// for; its zone for what may pass is "trusted".
const (
	dockerUser = "DOCKER-USER"
	ourChain   = "BOWLINE"
)

// MakeRoom lets the bridge's traffic pass another owner's ruleset, if there is
// one that drops it and has a door for this. It is a question or two to the
// kernel if there is none. made says that the bridge is new: firewalld, whose
// command takes a third of a second, is told of new bridges only.
func (h *Handle) MakeRoom(ctx context.Context, bridge string, made bool) error {
	what := "make room for " + bridge + " in another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if made {
		if err := h.tellFirewalld("--zone=trusted", "--change-interface="+bridge); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		there, err := h.hasDockerUser(f)
		if err != nil {
			return failure(what, err)
		}
		if !there || h.hasRoom(f, bridge) {
			continue
		}
		if err := h.inside(func() error { return makeRoom(f, bridge) }); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// GiveBackRoom removes what MakeRoom added for the bridge, and our chain with
// the last bridge. It succeeds if there is nothing.
func (h *Handle) GiveBackRoom(ctx context.Context, bridge string) error {
	what := "remove room for " + bridge + " from another firewall"
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var errs []error
	if err := h.tellFirewalld("--zone=trusted", "--remove-interface="+bridge); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", what, err))
	}
	for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		there, err := h.hasDockerUser(f)
		if err == nil && there {
			err = h.inside(func() error { return giveBackRoom(f, bridge) })
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	return errors.Join(errs...)
}

// tellFirewalld runs firewall-cmd if firewalld rules this namespace. An
// interface that no zone has is no error: its owner may have reloaded.
func (h *Handle) tellFirewalld(args ...string) error {
	err := h.with(func(c *nftables.Conn) error {
		_, err := c.ListTableOfFamily("firewalld", nftables.TableFamilyINet)
		return err
	})
	if err != nil {
		return nil // no such table: the library has no error of its own for it
	}
	return h.inside(func() error {
		out, err := exec.Command("firewall-cmd", args...).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "UNKNOWN_INTERFACE") {
			return fmt.Errorf("firewall-cmd %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

func (h *Handle) inside(f func() error) error {
	if h.ns == nil {
		return f()
	}
	return netns.Do(h.ns, f)
}

// hasDockerUser asks nftables, where iptables-nft keeps its chains, and the
// kernel's list of legacy tables.
func (h *Handle) hasDockerUser(f nftables.TableFamily) (bool, error) {
	err := h.with(func(c *nftables.Conn) error {
		_, err := c.ListChain(&nftables.Table{Name: "filter", Family: f}, dockerUser)
		return err
	})
	if err == nil || !notExist(err) {
		return err == nil, err
	}
	list := "/proc/thread-self/net/ip_tables_names"
	if f == nftables.TableFamilyIPv6 {
		list = "/proc/thread-self/net/ip6_tables_names"
	}
	legacy := false
	err = h.inside(func() error {
		names, err := os.ReadFile(list)
		if err != nil || !strings.Contains(string(names), "filter") {
			return nil // no legacy iptables in this kernel, or not in use
		}
		ipt, err := open(f)
		if err != nil {
			return nil // no iptables command: nobody can have a door there
		}
		legacy, err = ipt.ChainExists("filter", dockerUser)
		return err
	})
	return legacy, err
}

// hasRoom reports whether the last of our rules for the bridge is there. It
// sees iptables-nft only; for legacy iptables the commands must look.
func (h *Handle) hasRoom(f nftables.TableFamily, bridge string) bool {
	var rules []*nftables.Rule
	err := h.with(func(c *nftables.Conn) (err error) {
		t := &nftables.Table{Name: "filter", Family: f}
		rules, err = c.GetRules(t, &nftables.Chain{Name: ourChain, Table: t})
		return err
	})
	if err != nil {
		return false
	}
	named := 0
	for _, r := range rules {
		for _, e := range r.Exprs {
			if cmp, ok := e.(*expr.Cmp); ok && strings.TrimRight(string(cmp.Data), "\x00") == bridge {
				named++
				break
			}
		}
	}
	return named == len(roomRules(bridge))
}

func open(f nftables.TableFamily) (*iptables.IPTables, error) {
	proto := iptables.ProtocolIPv4
	if f == nftables.TableFamilyIPv6 {
		proto = iptables.ProtocolIPv6
	}
	return iptables.New(iptables.IPFamily(proto), iptables.Timeout(10))
}

// roomRules accept what a bridge forwards, and what comes back to it. Docker's
// own bridges are left to Docker, which keeps networks apart.
func roomRules(bridge string) [][]string {
	return [][]string{
		{"-i", bridge, "-o", bridge, "-j", "ACCEPT"},
		{"-i", bridge, "-o", "docker0", "-j", "RETURN"},
		{"-i", bridge, "-o", "br-+", "-j", "RETURN"},
		{"-i", bridge, "-j", "ACCEPT"},
		{"-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"},
	}
}

func makeRoom(f nftables.TableFamily, bridge string) error {
	ipt, err := open(f)
	if err != nil {
		return err
	}
	exists, err := ipt.ChainExists("filter", ourChain)
	if err != nil {
		return err
	}
	if !exists {
		if err := ipt.NewChain("filter", ourChain); err != nil {
			// Another process of ours may have been faster.
			if exists, cerr := ipt.ChainExists("filter", ourChain); cerr != nil || !exists {
				return err
			}
		}
	}
	for _, r := range roomRules(bridge) {
		if err := ipt.AppendUnique("filter", ourChain, r...); err != nil {
			return err
		}
	}
	return ipt.InsertUnique("filter", dockerUser, 1, "-j", ourChain)
}

func giveBackRoom(f nftables.TableFamily, bridge string) error {
	ipt, err := open(f)
	if err != nil {
		return err
	}
	if exists, err := ipt.ChainExists("filter", ourChain); err != nil || !exists {
		return err
	}
	for _, r := range roomRules(bridge) {
		if err := ipt.DeleteIfExists("filter", ourChain, r...); err != nil {
			return err
		}
	}
	left, err := ipt.List("filter", ourChain)
	if err != nil || len(left) > 1 { // the first line declares the chain
		return err
	}
	if err := ipt.DeleteIfExists("filter", dockerUser, "-j", ourChain); err != nil {
		return err
	}
	return ipt.DeleteChain("filter", ourChain)
}
