package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// nic adds a link to the host, up, with addresses and a route as an administrator
// would give it, that leads to a machine of its own, which is returned.
func (h *host) nic(name string) (lan *sandbox) {
	h.t.Helper()
	lan = h.sandbox("lan-" + name)
	h.run("ip", "link", "add", name, "type", "veth", "peer", "name", "lan0", "netns", lan.path)
	for _, args := range [][]string{
		{"link", "set", name, "mtu", "1400", "up"},
		{"addr", "add", "198.51.100.1/24", "dev", name},
		{"addr", "add", "2001:db8:5::1/64", "dev", name, "nodad"},
		{"route", "add", "203.0.113.0/24", "via", "198.51.100.9"},
		{"route", "add", "2001:db8:6::/48", "via", "2001:db8:5::9"},
	} {
		h.run("ip", args...)
	}
	for _, args := range [][]string{
		{"link", "set", "lan0", "up"},
		{"addr", "add", "198.51.100.9/24", "dev", "lan0"},
		{"addr", "add", "2001:db8:5::9/64", "dev", "lan0", "nodad"},
	} {
		lan.run("ip", args...)
	}
	eventually(h.t, func() error { // what the kernel does with an address later
		if out := h.run("ip", "-6", "route", "show", "table", "local"); !strings.Contains(out, "local 2001:db8:5::1 ") {
			return fmt.Errorf("no route to the address yet: %s", out)
		}
		return nil
	})
	h.t.Cleanup(func() { h.try("ip", "link", "delete", name) })
	return lan
}

// apart is a snapshot without what is the test's own: where sandboxes are mounted.
// Where ours are pinned is in it.
func (h *host) apart() snapshot {
	h.t.Helper()
	return h.snapshot().without("mount", func(l string) bool { return strings.Contains(l, h.dir+"/netns/") })
}

// deviceNetwork is one whose only container gets the NIC, with an address of the
// LAN if there is a subnet.
func deviceNetwork(name, device string, subnets ...string) conf {
	c := conf{"cniVersion": "1.1.0", "name": name, "type": "bowline-host", "device": device}
	var ranges []any
	for _, s := range subnets {
		ranges = append(ranges, []any{map[string]any{"subnet": s, "rangeStart": strings.Replace(s, ".0/24", ".20", 1)}})
	}
	if ranges != nil {
		c["ipam"] = map[string]any{"type": "bowline-ipam", "ranges": ranges, "routes": []any{map[string]any{"dst": "0.0.0.0/0", "gw": "198.51.100.9"}}}
	}
	return c
}

// TestDevice: a NIC goes into a container and comes back as it was.
func TestDevice(t *testing.T) {
	if reference() {
		t.Skip("the reference plugin does not claim this")
	}
	t.Parallel()
	h := newHost(t)
	lan := h.nic("nic0")
	before := h.apart()
	same := func(what string) {
		t.Helper()
		eventually(t, func() error {
			if d := diff(before, h.apart().withoutMarks()); d != "" {
				return fmt.Errorf("%s: the host is not as it was:\n%s", what, d)
			}
			return nil
		})
	}
	ours := func(r result) string {
		t.Helper()
		if len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eth0" || r.Interfaces[0].MTU != 1400 {
			t.Errorf("result: %s", r.raw)
		}
		return r.Interfaces[0].Mac
	}
	for _, tt := range []struct {
		name string
		c    conf
		addr string
		v6   bool
	}{
		{"own addresses", deviceNetwork("keep", "nic0"), "198.51.100.1", true},
		{"ours", deviceNetwork("lan", "nic0", "198.51.100.0/24"), "198.51.100.20", false},
		{"host-local", deviceNetwork("local", "nic0", "198.51.100.0/24").ipam("type", "host-local"), "198.51.100.20", false},
		{"no addresses", deviceNetwork("bare", "nic0").with("useInterfaceNetwork", false), "", false},
	} {
		one, two := h.sandbox("one"), h.sandbox("two")
		r := one.add(tt.c)
		mac := ours(r)
		if r.addr("4") != tt.addr || (r.addr("6") != "") != tt.v6 {
			t.Errorf("%s: result %s", tt.name, r.raw)
		}
		if tt.addr != "" && !one.reaches("198.51.100.9") {
			t.Errorf("%s: the container does not reach the LAN", tt.name)
		}
		if tt.v6 && !one.reaches("2001:db8:5::9") {
			t.Errorf("%s: the container does not reach the LAN by IPv6", tt.name)
		}
		if err := one.check(tt.c, r); err != nil {
			t.Errorf("%s: CHECK: %v", tt.name, err)
		}
		if err := h.status(tt.c); err != nil {
			t.Errorf("%s: STATUS: %v", tt.name, err)
		}
		by := conf{"cniVersion": "1.0.0", "name": "other", "type": "bowline-host", "hwaddr": mac}
		if _, err := two.tryAdd(by); code(err) != 100 || !strings.Contains(err.Error(), `held by one/eth0 of network "`+fmt.Sprint(tt.c["name"])) {
			t.Errorf("%s: the second container: %v", tt.name, err)
		}
		one.del(tt.c, r)
		one.empty(tt.name)
		same(tt.name)
		one.add(tt.c) // killed: nobody knows its namespace any more
		one.end()
		if err := one.tryDel(tt.c, ""); err != nil {
			t.Errorf("%s: DEL without a namespace: %v", tt.name, err)
		}
		same(tt.name + ", its namespace gone")
		two.end()
	}
	if !lan.reaches("198.51.100.1") {
		t.Error("the LAN does not reach the host any more")
	}
}

// TestDeviceBeside: the NIC is a second link of a container whose first one has the
// name that the NIC has in the host.
func TestDeviceBeside(t *testing.T) {
	if reference() {
		t.Skip("the reference plugin does not claim this")
	}
	t.Parallel()
	h := newHost(t)
	h.nic("eth0")
	web, lan := network("web", "10.1.0.0/24"), deviceNetwork("lan", "eth0")
	box := h.sandbox("one")
	first := box.add(web)
	before := h.apart()
	for _, ends := range []bool{false, true} {
		if _, err := box.tryAddAs(lan, "net1", ""); err != nil {
			t.Fatal(err)
		}
		if !box.reaches("198.51.100.9") || !box.reaches(first.gateway("4")) {
			t.Error("the container does not reach both networks")
		}
		if ends {
			box.end()
		}
		if _, err := h.cni(lan, call{verb: "DEL", id: "one", netns: box.path, ifname: "net1"}); err != nil {
			t.Fatal(err)
		}
		if ends { // the other link has ended with its namespace
			box.del(web, first)
			break
		}
		eventually(t, func() error {
			if d := diff(before, h.apart()); d != "" {
				return fmt.Errorf("the host is not as it was:\n%s", d)
			}
			return nil
		})
	}
	if out := h.run("ip", "-o", "addr", "show", "eth0"); !strings.Contains(out, "198.51.100.1/24") {
		t.Errorf("the NIC is not as it was: %s", out)
	}
}

// TestDeviceComesBack: a container that is gone without DEL has its NIC brought
// back by whoever looks.
func TestDeviceComesBack(t *testing.T) {
	if reference() {
		t.Skip("the reference plugin does not claim this")
	}
	t.Parallel()
	h := newHost(t)
	h.nic("nic0")
	before := h.apart()
	c := deviceNetwork("lan", "nic0")
	for _, tt := range []struct {
		name string
		do   func() string
	}{
		{"GC", func() string { return fmt.Sprint(h.gc(c, []string{})) }},
		{"repair", func() string { return h.run(bin("bowline-host"), "repair") }},
		{"prune", func() string { return h.run(bin("bowline-host"), "prune") }},
	} {
		box := h.sandbox("one")
		box.add(c)
		if out := h.run(bin("bowline-host"), "list"); !strings.Contains(out, "198.51.100.1/24") {
			t.Errorf("list: %s", out)
		}
		if out := h.run(bin("bowline-host"), "stats", "-json"); !strings.Contains(out, `"id":"one/eth0"`) {
			t.Errorf("stats: %s", out)
		}
		if out := h.run(bin("bowline-host"), "repair"); strings.Contains(out, "nic0") {
			t.Errorf("repair of what is right: %s", out)
		}
		box.end()
		out := tt.do()
		if tt.name == "repair" && !strings.Contains(out, "host has no link nic0, want it back from one/eth0, whose sandbox is gone") {
			t.Errorf("repair: %s", out)
		}
		if err := box.tryDel(c, ""); err != nil { // late
			t.Errorf("DEL after %s: %v", tt.name, err)
		}
		eventually(t, func() error {
			if d := diff(before, h.apart()); d != "" {
				return fmt.Errorf("after %s:\n%s", tt.name, d)
			}
			return nil
		})
	}
}

// TestDeviceWrong: what is wrong is told, and nothing is touched.
func TestDeviceWrong(t *testing.T) {
	if reference() {
		t.Skip("the reference plugin does not claim this")
	}
	t.Parallel()
	h := newHost(t)
	h.nic("nic0")
	h.run("ip", "route", "add", "default", "via", "198.51.100.9")
	before := h.apart()
	box := h.sandbox("one")
	none := conf{"cniVersion": "1.1.0", "name": "lan", "type": "bowline-host"}
	for _, tt := range []struct {
		c    conf
		code int
		want string
	}{
		{none, 7, "a container shares all that the host has, and so must be in the host's own namespace"},
		{none.with("device", "nic0").with("hwaddr", "02:00:00:00:00:01"), 7, "want one of them"},
		{none.with("device", "nic1"), 3, "the host has no link of that name"},
		{none.with("device", "nic0"), 100, "the host's default route leads through it"},
		{none.with("pciBusID", "ffff:ff:1f.7"), 3, "there is no such device"},
		{none.with("runtimeConfig", map[string]any{"deviceID": "nobody.7"}), 3, "neither the PCI bus nor the auxiliary bus"},
		{none.with("devise", "nic0"), 7, "did you mean device?"},
		{none.with("device", "nic0").with("runtimeConfig", map[string]any{"portMappings": []any{hostPort(80, 80, "tcp", "")}}), 7, "publishes no ports"},
	} {
		if _, err := box.tryAdd(tt.c); code(err) != tt.code || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%v: %v, want code %d with %q", tt.c, err, tt.code, tt.want)
		}
		if d := diff(before, h.apart()); d != "" {
			t.Errorf("%v: the host is not as it was:\n%s", tt.c, d)
		}
	}
	h.run("ip", "route", "del", "default")
}

// TestDeviceByHand: the same by the command line, and what would be done.
func TestDeviceByHand(t *testing.T) {
	if reference() {
		t.Skip("bowline is ours")
	}
	t.Parallel()
	h := newHost(t)
	h.nic("nic0")
	before := h.apart()
	cli := func(args ...string) string {
		t.Helper()
		return h.run(bin("bowline"), args...)
	}
	cli("network", "create", "lan", "--driver", "host", "--opt", "device=nic0")
	cli("network", "create", "given", "--driver", "host", "--opt", "device=nic0", "--subnet", "198.51.100.128/25")
	cli("sandbox", "create", "one", "two")
	if got := cli("connect", "one", "lan"); !strings.Contains(got, "198.51.100.1/24") || !strings.Contains(got, "2001:db8:5::1/64") {
		t.Errorf("connect: %s", got)
	}
	cli("sandbox", "exec", "one", "ping", "-c1", "-W2", "198.51.100.9")
	if out, err := h.try(bin("bowline"), "connect", "two", "given"); err == nil || !strings.Contains(out, "the NIC nic0 is held by one-") {
		t.Errorf("a second sandbox: %v %s", err, out)
	}
	cli("check")
	cli("diff")
	if got := cli("ls"); !strings.Contains(got, "host") || !strings.Contains(got, "198.51.100.1/24") {
		t.Errorf("ls: %s", got)
	}
	cli("shape", "one", "--egress", "10mbit")
	cli("policy", "set", "one", "deny egress tcp 25")
	cli("check")
	cli("disconnect", "one", "lan")
	if got := cli("connect", "two", "given", "--egress", "5mbit"); !strings.Contains(got, "198.51.100.129/25") && !strings.Contains(got, "198.51.100.130/25") {
		t.Errorf("connect: %s", got)
	}
	cli("sandbox", "rm", "one", "two")
	cli("network", "rm", "lan", "given")
	eventually(t, func() error {
		if d := diff(before, h.apart()); d != "" {
			return fmt.Errorf("the host is not as it was:\n%s", d)
		}
		return nil
	})

	box := h.sandbox("one")
	c := deviceNetwork("lan", "nic0")
	explained := func(verb string) string {
		t.Helper()
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(h.dir, "conf.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return h.run("sh", "-c", bin("bowline-host")+" explain -container one -netns "+box.path+" "+verb+" <"+file)
	}
	planned := h.apart()
	for _, want := range []string{`ip link set nic0 alias "bowline device nic0 lan/one/eth0"`, "ip link set nic0 netns sandbox name eth0", "ip addr add 198.51.100.1/24 dev eth0"} {
		if got := explained("ADD"); !strings.Contains(got, want+"\n") {
			t.Errorf("the plan of ADD lacks %q:\n%s", want, got)
		}
	}
	if d := diff(planned, h.apart()); d != "" {
		t.Errorf("explain changes\n%s", d)
	}
	box.add(c)
	added := h.apart()
	for _, want := range []string{"ip link set nic0 netns host name nic0", "ip addr add 198.51.100.1/24 dev nic0", "ip route add 203.0.113.0/24 via 198.51.100.9 dev nic0", `ip link set nic0 alias ""`} {
		if got := explained("DEL"); !strings.Contains(got, want+"\n") {
			t.Errorf("the plan of DEL lacks %q:\n%s", want, got)
		}
	}
	if d := diff(added, h.apart()); d != "" {
		t.Errorf("explain changes\n%s", d)
	}
	box.del(c, result{})
}
