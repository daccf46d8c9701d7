package nft

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestLinkFailure: what older kernels answer is told apart.
func TestLinkFailure(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t) // has lo
	h := &Handle{ns: ns, sandbox: true}
	tests := []struct {
		name, link string
		errno      unix.Errno
		want       error
		text       string
	}{
		{"no egress hook", "lo", unix.EOPNOTSUPP, bowline.ErrNoKernel, "CONFIG_NETFILTER_EGRESS of Linux 5.16"},
		{"no such family", "lo", unix.EAFNOSUPPORT, bowline.ErrNoKernel, "CONFIG_NETFILTER_EGRESS of Linux 5.16"},
		{"no such type of chain", "lo", unix.ENOENT, bowline.ErrNoKernel, "CONFIG_NETFILTER_EGRESS of Linux 5.16"},
		{"no link, before 6.16", "eth0", unix.ENOENT, bowline.ErrUnknown, "x: link eth0: not found"},
		{"another policy", "lo", unix.EEXIST, bowline.ErrConflict, "exists with another meaning"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := h.linkFailure("x", tt.link, fmt.Errorf("conn.Receive: %w", tt.errno))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v; want %v with %q", err, tt.want, tt.text)
			}
		})
	}
	if err := h.linkFailure("x", "lo", nil); err != nil {
		t.Errorf("without an error: %v", err)
	}
}

func TestStrictest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint32{
		"":                          1, // what no rule meets
		"deny ingress":              2,
		"deny egress tcp 25":        0,
		"allow egress; deny egress": 0,
		"allow egress tcp 80; deny ingress; deny egress to 10.0.0.0/8": 2,
	} {
		rules, err := bowline.ParsePolicy("here", text)
		if err != nil {
			t.Fatal(err)
		}
		if got := strictest(rules); got != want {
			t.Errorf("%q: rule %d, want %d", text, got, want)
		}
	}
}

// TestDeleteTableUnlessChanged: who has not seen the last change takes nothing
// away.
func TestDeleteTableUnlessChanged(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := &Handle{ns: ns, sandbox: true}
	defer h.Close()
	tables := func() string { return netnstest.Command(t, ns, "nft", "list", "tables") }
	netnstest.Command(t, ns, "nft", "add table netdev bowline")
	for _, seen := range []bool{false, true} {
		err := h.with(func(c *nftables.Conn) error {
			generation, err := h.generation()
			if err != nil {
				return err
			}
			if !seen {
				netnstest.Command(t, ns, "nft", "add table ip x")
			}
			return h.deleteTable(c, generation)
		})
		if seen && (err != nil || strings.Contains(tables(), "bowline")) || !seen && (!errors.Is(err, unix.ERESTART) || !strings.Contains(tables(), "bowline")) {
			t.Errorf("with the last change seen %v: %v, tables are %s", seen, err, tables())
		}
	}
}
