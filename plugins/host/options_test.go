package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

func TestParseOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		options  []string
		endpoint map[string]string
		want     string // the way that the NIC is named, or a part of the error
		ok       bool
	}{
		{nil, nil, "", true},
		{[]string{"device", "eth1"}, nil, `device="eth1"`, true},
		{[]string{"hwaddr", "02:00:00:00:00:0A"}, nil, `hwaddr="02:00:00:00:00:0a"`, true},
		{[]string{"kernelpath", "/sys/devices/pci0000:00/0000:00:1f.6/"}, nil, `kernelpath="/sys/devices/pci0000:00/0000:00:1f.6"`, true},
		{[]string{"pciBusID", "0000:00:1f.6"}, nil, `pciBusID="0000:00:1f.6"`, true},
		{nil, map[string]string{"deviceID": "mlx5_core.sf.4"}, `deviceID="mlx5_core.sf.4"`, true},
		{[]string{"pciBusID", "0000:00:1f.6"}, map[string]string{"deviceID": "0000:00:1f.7"}, `deviceID="0000:00:1f.7"`, true},
		{[]string{"device", "eth1"}, map[string]string{"deviceID": "0000:00:1f.7"}, `want a network without option device="eth1"`, false},
		{[]string{"device", "eth1", "hwaddr", "02:00:00:00:00:01"}, nil, `options device="eth1" and hwaddr="02:00:00:00:00:01": want one of them`, false},
		{[]string{"device", "a/b"}, nil, `option device="a/b": want NAME of the NIC`, false},
		{[]string{"hwaddr", "x"}, nil, `option hwaddr="x": want ADDRESS of the NIC`, false},
		{[]string{"kernelpath", "/sys/devices/../class/net/eth0"}, nil, `want PATH of the NIC's device below /sys/devices`, false},
		{[]string{"pciBusID", "../../class"}, nil, `option pciBusID="../../class": want ADDRESS`, false},
		{nil, map[string]string{"deviceID": ".."}, `option deviceID="..": want ADDRESS`, false},
		{[]string{"devcie", "eth1"}, nil, `did you mean device?`, false},
		{[]string{"device", "eth1", "mtu", "10"}, nil, `want largest IP packet in bytes`, false},
	} {
		n := network(tt.options...)
		o, err := parseEndpoint(n, bowline.EndpointSpec{ID: "c/eth0", Options: tt.endpoint})
		switch {
		case tt.ok && (err != nil || o.want.String() != tt.want):
			t.Errorf("%v, %v: %s, %v; want %s", tt.options, tt.endpoint, o.want, err, tt.want)
		case !tt.ok && (!errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%v, %v: %v; want %s", tt.options, tt.endpoint, err, tt.want)
		}
	}
}

func TestForDocker(t *testing.T) {
	t.Parallel()
	if err := forDocker(network("device", "eth1")); err != nil {
		t.Error(err)
	}
	if err := forDocker(network()); !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), "docker run --network host") {
		t.Errorf("without a NIC: %v", err)
	}
	if o := defaults(network()); o != nil {
		t.Errorf("a network without pools gets %v", o)
	}
}

func TestByMAC(t *testing.T) {
	t.Parallel()
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	links := []link.Info{
		{Name: "eth0", MAC: mac(1)}, {Name: "br0", Kind: "bridge", MAC: mac(1)}, {Name: "eth0.10", Kind: "vlan", MAC: mac(1)},
		{Name: "veth1", Kind: "veth", MAC: mac(2)}, {Name: "veth2", Kind: "veth", MAC: mac(2)},
		{Name: "eth3", MAC: mac(3)},
	}
	for _, tt := range []struct {
		last byte
		want string
		err  error
	}{{1, "eth0", nil}, {3, "eth3", nil}, {2, "", bowline.ErrConflict}, {9, "", bowline.ErrUnknown}} {
		l, err := byMAC(wanted{hwaddr: mac(tt.last).String()}, links)
		if l.Name != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("the MAC that ends in %d: %s, %v; want %s, %v", tt.last, l.Name, err, tt.want, tt.err)
		}
	}
}

// sysTree makes a directory that tells of devices as the kernel does.
func sysTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{
		"devices/pci0/0000:00:01.0/net/eth1", "devices/pci0/0000:00:02.0/virtio0/net/eth2", "devices/pci0/0000:00:03.0",
		"devices/pci0/0000:00:04.0", "devices/pci0/0000:00:05.0/mlx5_core.sf.4/net/eth5", "bus/pci/devices", "bus/auxiliary/devices", "class/net/eth1", "class/net/eth2", "drivers/vfio-pci",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{
		"bus/pci/devices/0000:00:01.0": "../../../devices/pci0/0000:00:01.0", "bus/pci/devices/0000:00:02.0": "../../../devices/pci0/0000:00:02.0",
		"bus/pci/devices/0000:00:03.0": "../../../devices/pci0/0000:00:03.0", "bus/pci/devices/0000:00:04.0": "../../../devices/pci0/0000:00:04.0",
		"bus/auxiliary/devices/mlx5_core.sf.4": "../../../devices/pci0/0000:00:05.0/mlx5_core.sf.4",
		"class/net/eth1/device":                "../../../devices/pci0/0000:00:01.0", "class/net/eth2/device": "../../../devices/pci0/0000:00:02.0/virtio0",
		"devices/pci0/0000:00:03.0/driver": "../../../drivers/vfio-pci",
	} {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestOnBus(t *testing.T) {
	t.Parallel()
	d := &driver{sys: sysTree(t)}
	for _, tt := range []struct {
		w    wanted
		want string
		err  error
		text string
	}{
		{wanted{pciBusID: "0000:00:01.0"}, "eth1", nil, ""},
		{wanted{pciBusID: "0000:00:02.0"}, "eth2", nil, ""},
		{wanted{deviceID: "0000:00:01.0"}, "eth1", nil, ""},
		{wanted{deviceID: "mlx5_core.sf.4"}, "eth5", nil, ""},
		{wanted{kernelPath: "/sys/devices/pci0/0000:00:02.0"}, "eth2", nil, ""},
		{wanted{kernelPath: "/sys/devices/pci0/0000:00:02.0/virtio0"}, "eth2", nil, ""},
		{wanted{pciBusID: "0000:00:03.0"}, "", bowline.ErrUnknown, "no link in the host's namespace"},
		{wanted{pciBusID: "0000:00:04.0"}, "", bowline.ErrUnknown, "no link in the host's namespace"},
		{wanted{pciBusID: "0000:00:09.0"}, "", bowline.ErrUnknown, "there is no such device"},
		{wanted{deviceID: "nobody"}, "", bowline.ErrUnknown, "neither the PCI bus nor the auxiliary bus"},
	} {
		name, err := d.onBus(tt.w)
		if name != tt.want || !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %q, %v; want %q, %v %s", tt.w, name, err, tt.want, tt.err, tt.text)
		}
	}
	for w, want := range map[wanted]bool{{pciBusID: "0000:00:03.0"}: true, {deviceID: "0000:00:03.0"}: true, {pciBusID: "0000:00:01.0"}: false, {device: "eth1"}: false, {deviceID: "nobody"}: false} {
		if got := d.isUserspace(w); got != want {
			t.Errorf("%s is driven by a program: %v, want %v", w, got, want)
		}
	}
	one := loan{Name: "eth1", MAC: "02:00:00:00:00:01", Device: d.deviceOf("eth1")}
	two := loan{Name: "eth2", Device: d.deviceOf("eth2")}
	for _, tt := range []struct {
		w        wanted
		one, two bool
	}{
		{wanted{device: "eth1"}, true, false}, {wanted{hwaddr: "02:00:00:00:00:01"}, true, false},
		{wanted{pciBusID: "0000:00:01.0"}, true, false}, {wanted{deviceID: "0000:00:02.0"}, false, true},
		{wanted{kernelPath: "/sys/devices/pci0/0000:00:02.0"}, false, true}, {wanted{kernelPath: "/sys/devices/pci0"}, true, true},
		{wanted{pciBusID: "0000:00:04.0"}, false, false},
	} {
		if d.names(tt.w, one) != tt.one || d.names(tt.w, two) != tt.two {
			t.Errorf("%s names eth1: %v, eth2: %v", tt.w, d.names(tt.w, one), d.names(tt.w, two))
		}
	}
}

func TestAlias(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 130)
	for _, id := range []string{"c/eth0", long} {
		a := alias("eth1", "lan", id)
		if name, holder, ok := parseAlias(a); !ok || name != "eth1" || holder != "lan/"+shown(id) || len(a) > 255 {
			t.Errorf("%q is parsed as %q, %q, %v", a, name, holder, ok)
		}
	}
	if shown(long+"1") == shown(long+"2") {
		t.Error("two long IDs look the same")
	}
	if _, _, ok := parseAlias("uplink to rack 7"); ok {
		t.Error("somebody else's alias is taken for ours")
	}
}
