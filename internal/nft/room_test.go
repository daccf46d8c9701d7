package nft_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

// TestRoomInDockerUser: with Docker's FORWARD that drops, kept by either kind of
// iptables, containers get out through room of ours and leave nothing.
func TestRoomInDockerUser(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			host, container := routedHost(t)
			h := nft.Open(host)
			if err := netns.Do(host, exec.Command("iptables-"+kind, "-S").Run); err != nil {
				t.Logf("this kernel has no iptables-%s: %v", kind, err)
				return
			}
			v4 := func(args ...string) string {
				return netnstest.Command(t, host, append([]string{"iptables-" + kind}, args...)...)
			}
			v6 := func(args ...string) string {
				return netnstest.Command(t, host, append([]string{"ip6tables-" + kind}, args...)...)
			}
			both := func(args ...string) { v4(args...); v6(args...) }

			if err := h.MakeRoom(t.Context(), nft.Room{Bridge: "br0"}); err != nil {
				t.Fatal(err)
			}
			if rules := v4("-S") + v6("-S"); strings.Contains(rules, "-N") {
				t.Errorf("without a door there is %s", rules)
			}
			both("-P", "FORWARD", "DROP")
			both("-N", "DOCKER-USER")
			both("-A", "DOCKER-USER", "-j", "RETURN")
			both("-I", "FORWARD", "-j", "DOCKER-USER")
			v4("-I", "DOCKER-USER", "-s", "10.1.0.3/32", "-j", "DROP") // the user's own
			docker := v4("-S") + v6("-S")
			reaches(t, container, "10.1.0.2", "192.0.2.2", false)

			for _, bridge := range []string{"br0", "br00", "br0"} {
				if err := h.MakeRoom(t.Context(), nft.Room{Bridge: bridge}); err != nil {
					t.Fatal(err)
				}
			}
			room := `-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N BOWLINE
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A BOWLINE -i br0 -o br0 -j ACCEPT
-A BOWLINE -i br0 -o docker0 -j RETURN
-A BOWLINE -i br0 -o br-+ -j RETURN
-A BOWLINE -i br0 -j ACCEPT
-A BOWLINE -o br0 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A BOWLINE -i br00 -o br00 -j ACCEPT
-A BOWLINE -i br00 -o docker0 -j RETURN
-A BOWLINE -i br00 -o br-+ -j RETURN
-A BOWLINE -i br00 -j ACCEPT
-A BOWLINE -o br00 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A DOCKER-USER -s 10.1.0.3/32 -j DROP
-A DOCKER-USER -j BOWLINE
-A DOCKER-USER -j RETURN
`
			same(t, "with room", v4("-S"), room)
			reaches(t, container, "10.1.0.2", "192.0.2.2", true)
			reaches(t, container, "10.1.0.3", "192.0.2.2", false)

			// What somebody broke is mended by the next container.
			v4("-D", "BOWLINE", "-i", "br00", "-o", "br00", "-j", "ACCEPT")
			v4("-D", "DOCKER-USER", "-j", "BOWLINE")
			if err := h.CheckRoom(t.Context(), nft.Room{Bridge: "br00"}); !errors.Is(err, bowline.ErrDiffers) {
				t.Errorf("CheckRoom: %v, want ErrDiffers", err)
			}
			if err := errors.Join(h.MakeRoom(t.Context(), nft.Room{Bridge: "br00"}), h.CheckRoom(t.Context(), nft.Room{Bridge: "br00"})); err != nil {
				t.Fatal(err)
			}
			same(t, "mended", v4("-S"), room)

			if err := h.GiveBackRoom(t.Context(), nft.Room{Bridge: "br00"}); err != nil {
				t.Fatal(err)
			}
			if rules := v4("-S") + v6("-S"); strings.Contains(rules, "br00") || strings.Count(rules, " br0 ") != 12 {
				t.Errorf("want the room of br0 alone: %s", rules)
			}
			reaches(t, container, "10.1.0.2", "192.0.2.2", true)
			for range 2 {
				if err := h.GiveBackRoom(t.Context(), nft.Room{Bridge: "br0"}); err != nil {
					t.Fatal(err)
				}
			}
			same(t, "afterwards", v4("-S")+v6("-S"), docker)
			reaches(t, container, "10.1.0.2", "192.0.2.2", false)
		})
	}
}

// TestLegacyTablesWithoutCommand: tables that no command here can show have no
// door for us, and must not be in the way.
func TestLegacyTablesWithoutCommand(t *testing.T) {
	ns := netnstest.New(t)
	if err := netns.Do(ns, exec.Command("iptables-legacy", "-S").Run); err != nil {
		t.Logf("this kernel has no iptables-legacy: %v", err)
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		multi, err := exec.LookPath(name + "-nft")
		if err == nil {
			err = os.Symlink(multi, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	h := nft.Open(ns)
	if err := errors.Join(h.MakeRoom(t.Context(), nft.Room{Bridge: "br0"}), h.GiveBackRoom(t.Context(), nft.Room{Bridge: "br0"})); err != nil {
		t.Error(err)
	}
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: the rules are\n%s\nwant\n%s", what, got, want)
	}
}

// routedHost returns a host that forwards between a container on its bridge
// br0, 10.1.0.2 and 10.1.0.3, and 192.0.2.2 beyond its link up0.
func routedHost(t *testing.T) (host, container *netns.Handle) {
	t.Helper()
	host, container = netnstest.New(t), netnstest.New(t)
	outside := netnstest.New(t)
	wire := func(name, master string, in *netns.Handle) {
		path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), in.Fd())
		netnstest.Command(t, host, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", path)
		netnstest.Command(t, in, "ip", "link", "set", "eth0", "up")
		if master != "" {
			netnstest.Command(t, host, "ip", "link", "set", name, "master", master)
		}
		netnstest.Command(t, host, "ip", "link", "set", name, "up")
	}
	netnstest.Command(t, host, "ip", "link", "add", "br0", "up", "type", "bridge")
	netnstest.Command(t, host, "ip", "addr", "add", "10.1.0.1/24", "dev", "br0")
	wire("port0", "br0", container)
	wire("up0", "", outside)
	netnstest.Command(t, host, "ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
	netnstest.Command(t, outside, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	netnstest.Command(t, outside, "ip", "route", "add", "default", "via", "192.0.2.1")
	netnstest.Command(t, container, "ip", "addr", "add", "10.1.0.2/24", "dev", "eth0")
	netnstest.Command(t, container, "ip", "addr", "add", "10.1.0.3/24", "dev", "eth0")
	netnstest.Command(t, container, "ip", "route", "add", "default", "via", "10.1.0.1")
	if err := netns.Do(host, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600) }); err != nil {
		t.Fatal(err)
	}
	return host, container
}

func reaches(t *testing.T, from *netns.Handle, source, to string, want bool) {
	t.Helper()
	wait := "1"
	if want {
		wait = "20"
	}
	var out []byte
	_ = netns.Do(from, func() (err error) { // an error of ping is an answer
		out, err = exec.Command("ping", "-I", source, "-c", "1", "-W", wait, "-w", wait, to).CombinedOutput()
		return err
	})
	if !strings.Contains(string(out), "1 packets transmitted") || strings.Contains(string(out), " 0% packet loss") != want {
		t.Errorf("%s reaches %s: want %v: %s", source, to, want, out)
	}
}
