//go:build vm

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
)

// vmBench is a bench whose host is the virtual machine of make test-vm, in the
// namespace that it booted with. Its NICs are real as far as the kernel goes.
func vmBench(t *testing.T) *bench {
	t.Helper()
	if os.Getenv("BOWLINE_TEST_VM") != "1" {
		t.Fatal("want the virtual machine of make test-vm: it takes NICs of the machine")
	}
	ns, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	b := &bench{t: t, ns: ns, dir: t.TempDir()}
	if b.d, err = newDriver(nil, b.loans()); err != nil {
		t.Fatal(err)
	}
	return b
}

// pciNIC returns the name of the machine's NIC with that driver, and its address
// on the PCI bus.
func pciNIC(t *testing.T, driver string) (name, pci string) {
	t.Helper()
	for _, pattern := range []string{"/sys/bus/pci/drivers/" + driver + "/*/net/*", "/sys/bus/pci/drivers/" + driver + "/*/virtio*/net/*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return filepath.Base(found[0]), strings.Split(strings.TrimPrefix(found[0], "/sys/bus/pci/drivers/"+driver+"/"), "/")[0]
		}
	}
	t.Fatalf("the machine has no NIC with the driver %s", driver)
	return "", ""
}

// TestVMBus: NICs are found by their place on the bus, and by a MAC, and so is
// who has them.
func TestVMBus(t *testing.T) {
	b := vmBench(t)
	for _, driver := range []string{"e1000", "virtio-pci"} {
		name, pci := pciNIC(t, driver)
		device, err := filepath.EvalSymlinks("/sys/bus/pci/devices/" + pci)
		if err != nil {
			t.Fatal(err)
		}
		mac, err := os.ReadFile("/sys/class/net/" + name + "/address")
		if err != nil {
			t.Fatal(err)
		}
		b.run("ip link set "+name+" up", "ip addr add 192.0.2.2/24 dev "+name)
		before := steady(b.run("ip -o addr show dev " + name))
		ways := []bowline.NetworkConfig{
			network("pciBusID", pci), network("kernelpath", device), network("hwaddr", string(bytes.TrimSpace(mac))), network("device", name), network(),
		}
		for i, n := range ways {
			box, _ := b.sandbox("one")
			e := endpointIn("one", box)
			if len(n.Options) == 0 {
				e.Options = map[string]string{"deviceID": pci}
			}
			if a := b.attach(n, e); a.Link != "eth0" || len(a.Addrs) != 1 {
				t.Errorf("%v: attachment is %+v", n.Options, a)
			}
			if l, _, _ := b.d.loans.get(t.Context(), n.ID, e.ID); l.Pin != "" || l.Device == "" || l.Kind != "" {
				t.Errorf("%v: the record is %+v, want a NIC that needs no pin", n.Options, l)
			}
			other, _ := b.sandbox("two")
			_, err := b.d.CreateEndpoint(t.Context(), ways[(i+1)%4], endpointIn("two", other))
			if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "held by one/eth0") {
				t.Errorf("%v, then %v: %v", n.Options, ways[(i+1)%4].Options, err)
			}
			b.detach(n, "one")
			if after := steady(b.run("ip -o addr show dev " + name)); after != before {
				t.Errorf("%v: it had\n%s\nand has\n%s", n.Options, before, after)
			}
		}
		b.run("ip addr flush dev "+name, "ip link set "+name+" down")
	}
}

// TestVMNamespaceEnds: the kernel brings the NIC back, and we make it what it was.
func TestVMNamespaceEnds(t *testing.T) {
	b := vmBench(t)
	name, _ := pciNIC(t, "e1000")
	b.run("ip link set "+name+" alias uplink up", "ip addr add 192.0.2.2/24 dev "+name, "ip route add 203.0.113.0/24 via 192.0.2.1 dev "+name)
	tell := func() string {
		return steady(b.run("ip -o addr show dev "+name) + b.run("ip route") + b.run("ip -o link show dev "+name+" up"))
	}
	before := tell()
	n := network("device", name)
	for what, back := range map[string]func() error{
		"DEL":     func() error { b.detach(n, "one"); return nil },
		"GC":      func() error { return b.d.Prune(t.Context(), n, nil) },
		"Reclaim": func() error { b.home(); _, err := b.d.Reclaim(t.Context()); return err },
	} {
		box, end := b.sandbox("one")
		e := endpointIn("one", box)
		e.IfName = "net1"
		e.ID = "one/eth0"
		b.attach(n, e)
		end()
		if err := back(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		b.eventually(what+": the NIC is as it was", func() bool {
			out, err := os.ReadFile("/sys/class/net/" + name + "/ifalias")
			return err == nil && string(bytes.TrimSpace(out)) == "uplink"
		})
		if after := tell(); after != before {
			t.Errorf("%s: it had\n%s\nand has\n%s", what, before, after)
		}
		if left, _ := filepath.Glob(b.dir + "/loans/*/*"); len(left) > 0 {
			t.Errorf("%s: records left: %v", what, left)
		}
	}
	b.run("ip addr flush dev "+name, "ip link set "+name+" down")
}

// steady drops what follows the carrier of a NIC, which comes some time after it is
// up.
func steady(text string) string {
	var b strings.Builder
	for l := range strings.Lines(strings.NewReplacer("NO-CARRIER,", "", ",LOWER_UP", "", " linkdown", "", "state UP", "", "state DOWN", "").Replace(text)) {
		if !strings.Contains(l, "fe80:") {
			b.WriteString(strings.Join(strings.Fields(l), " ") + "\n")
		}
	}
	return b.String()
}

// home waits until the kernel has brought a NIC back, under its name in the
// sandbox.
func (b *bench) home() {
	b.eventually("the kernel brings it back", func() bool {
		_, err := os.Stat("/sys/class/net/net1")
		return err == nil
	})
}
