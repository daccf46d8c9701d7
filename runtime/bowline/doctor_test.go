package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns"
)

// sh runs a shell command on the host.
func (h *host) sh(command string) {
	h.t.Helper()
	err := netns.Do(h.ns, func() error {
		out, err := exec.Command("sh", "-ec", command).CombinedOutput()
		if err != nil {
			h.t.Logf("%s", out)
		}
		return err
	})
	if err != nil {
		h.t.Fatalf("%s: %v", command, err)
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		breakIt func(h *host)
		want    string // start of a line
		fix     string // in it
	}{
		{"kernel", func(*host) {}, "ok kernel has veth, bridge, nftables", ""},
		{"plugin", func(h *host) {
			if err := os.WriteFile(h.dir+"/bowline-bridge", []byte("#!/bin/sh\n"), 0o755); err != nil {
				h.t.Fatal(err)
			}
			h.env = append(h.env, "BOWLINE_CNI_PATH="+h.dir)
		}, "ok plugins ", ""},
		{"nobody drops", func(*host) {}, "ok firewall nobody drops", ""},
		{"somebody drops", func(h *host) {
			h.sh("nft 'table ip mine { chain pass { type filter hook forward priority 0; policy drop; }; }'")
		}, "warn firewall ip mine pass drops by policy", "accepts packets from and to the bridges"},
		{"Docker drops", func(h *host) {
			h.sh("nft 'table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority 0; policy drop; }; }'")
		}, "note firewall ip filter FORWARD drops by policy, set by Docker", ""},
		{"no forwarding for containers", func(h *host) {
			h.ok("network", "create", "--conf", h.conflist("web", "br0", "10.9.0.0/24"))
			h.ok("sandbox", "create", "one")
			h.ok("connect", "one", "web")
			h.sh("sysctl -qw net.ipv4.ip_forward=0")
		}, "fail forwarding IPv4 is not forwarded", "sysctl -w net.ipv4.ip_forward=1"},
		{"MTU", func(h *host) {
			h.sh("ip link add up0 mtu 1400 type veth; ip link set up0 up; ip addr add 10.1.0.1/24 dev up0; ip route add default via 10.1.0.2; " +
				"ip link add br0 type bridge; ip link set br0 mtu 1500")
		}, "warn mtu bridge br0 takes 1500 bytes, but up0, the way out, only 1400", "mtu=1400"},
		{"namespace gone", func(h *host) {
			h.ok("sandbox", "create", "one")
			if err := netns.Remove(h.dir + "/run/netns/one"); err != nil {
				h.t.Fatal(err)
			}
		}, "warn leftovers sandbox one its namespace is gone", "bowline gc"},
		{"record gone", func(h *host) {
			h.ok("sandbox", "create", "one")
			if err := os.Remove(h.dir + "/run/runtime/sandboxes/one"); err != nil {
				h.t.Fatal(err)
			}
		}, "warn leftovers ", "bowline sandbox rm one"},
		{"record damaged", func(h *host) {
			h.ok("sandbox", "create", "one")
			if err := os.WriteFile(h.dir+"/run/runtime/sandboxes/one", []byte("torn"), 0o600); err != nil {
				h.t.Fatal(err)
			}
		}, "warn leftovers a damaged record was set aside: ", "rm "},
		{"link without a record", func(h *host) {
			h.sh("ip link add x type veth; ip link set x alias 'bowline endpoint web/one'")
		}, "warn leftovers link x (bowline endpoint web/one) has no record", "bowline gc"},
		{"socket without a server", func(h *host) {
			if err := os.MkdirAll(h.dir+"/plugins", 0o755); err != nil {
				h.t.Fatal(err)
			}
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.dir + "/plugins/bowline-bridge.sock", Net: "unix"})
			if err != nil {
				h.t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
		}, "fail plugins ", "systemctl restart bowline-bridge"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			tt.breakIt(h)
			out, errOut, code := h.run("doctor", "--json")
			var all []struct{ Level, Area, Text, Fix string }
			if err := json.Unmarshal([]byte(out), &all); err != nil {
				t.Fatalf("%v: %s", err, errOut)
			}
			want := exitDone
			for _, f := range all {
				if f.Level == "warn" || f.Level == "fail" {
					want = exitFound
				}
			}
			if code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			for _, f := range all {
				if strings.HasPrefix(f.Level+" "+f.Area+" "+f.Text, tt.want) && strings.Contains(f.Fix, tt.fix) {
					return
				}
			}
			t.Errorf("no finding like %q with a fix like %q in %s", tt.want, tt.fix, out)
		})
	}
}
