package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// sysfs is where the kernel tells of devices. It shows the links of the namespace
// of who mounted it: the host's.
const sysfs = "/sys"

// choose returns the NIC that is wanted. The error wraps [bowline.ErrUnknown] if
// the host has none such now, and [bowline.ErrConflict] if it has several.
func (d *driver) choose(ctx context.Context, w wanted) (link.Info, error) {
	switch {
	case w.device != "":
		l, err := d.host.Get(ctx, w.device)
		if errors.Is(err, bowline.ErrUnknown) {
			err = missing(w, "the host has no link of that name")
		}
		return l, err
	case w.hwaddr != "":
		all, err := d.host.Links(ctx)
		if err != nil {
			return link.Info{}, err
		}
		return byMAC(w, all)
	}
	name, err := d.onBus(w)
	if err != nil {
		return link.Info{}, err
	}
	return d.host.Get(ctx, name)
}

func missing(w wanted, what string) error {
	return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("option %s: %s", w, what))
}

// byMAC returns the link that has the MAC. Links that are made on a NIC, and
// bridges that it is a port of, often have its MAC, too: the NIC is meant.
func byMAC(w wanted, all []link.Info) (link.Info, error) {
	mac, _ := net.ParseMAC(w.hwaddr)
	all = slices.DeleteFunc(slices.Clone(all), func(l link.Info) bool { return !bytes.Equal(l.MAC, mac) })
	if len(all) > 1 {
		if nics := slices.DeleteFunc(slices.Clone(all), func(l link.Info) bool { return l.Kind != "" }); len(nics) == 1 {
			all = nics
		}
	}
	switch len(all) {
	case 0:
		return link.Info{}, missing(w, "the host has no link with that MAC")
	case 1:
		return all[0], nil
	}
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	return link.Info{}, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("option %s: the links %s have that MAC: want option device with one of the names", w, strings.Join(names, ", ")))
}

// devicePath is where sysfs tells of the device that is wanted.
func (d *driver) devicePath(w wanted) (string, error) {
	if w.kernelPath != "" {
		return d.sys + strings.TrimPrefix(w.kernelPath, sysfs), nil
	}
	if w.pciBusID != "" {
		return filepath.Join(d.sys, "bus/pci/devices", w.pciBusID), nil
	}
	for _, bus := range []string{"pci", "auxiliary"} {
		dir := filepath.Join(d.sys, "bus", bus, "devices", w.deviceID)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
	}
	return "", missing(w, "neither the PCI bus nor the auxiliary bus has that device")
}

// onBus returns the name of the NIC of a device. Of a device of virtio it is one
// directory further down.
func (d *driver) onBus(w wanted) (name string, err error) {
	dir, err := d.devicePath(w)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", missing(w, "there is no such device")
	}
	for _, pattern := range []string{"net/*", "virtio*/net/*"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return filepath.Base(found[0]), nil
		}
	}
	return "", missing(w, "the device has no link in the host's namespace")
}

// isUserspace reports whether the device that is wanted is driven by a program, as
// with DPDK, so that the kernel has no link of it.
func (d *driver) isUserspace(w wanted) bool {
	if w.kernelPath == "" && w.pciBusID == "" && w.deviceID == "" {
		return false
	}
	dir, err := d.devicePath(w)
	return err == nil && userspaceDriver(dir) != ""
}

// userspaceDriver returns the driver of a device if it is one by which a program
// drives the device itself, as with DPDK.
func userspaceDriver(dir string) string {
	to, err := os.Readlink(filepath.Join(dir, "driver"))
	if name := filepath.Base(to); err == nil && slices.Contains([]string{"vfio-pci", "uio_pci_generic", "igb_uio"}, name) {
		return name
	}
	return ""
}

// deviceOf returns the path below /sys/devices of a NIC's device, "" if it has none.
func (d *driver) deviceOf(name string) string {
	to, err := filepath.EvalSymlinks(filepath.Join(d.sys, "class/net", name, "device"))
	if err != nil {
		return ""
	}
	return to
}

// names reports whether w is the NIC of the loan, wherever that is.
func (d *driver) names(w wanted, l loan) bool {
	switch {
	case w.device != "":
		return w.device == l.Name
	case w.hwaddr != "":
		return w.hwaddr == l.MAC
	}
	dir, err := d.devicePath(w)
	if err != nil || l.Device == "" {
		return false
	}
	if to, err := filepath.EvalSymlinks(dir); err == nil {
		dir = to
	}
	return l.Device == dir || strings.HasPrefix(l.Device, dir+"/")
}

// relied says what of the host relies on the NIC, or "".
func (d *driver) relied(ctx context.Context, l link.Info) (string, error) {
	if l.Master != 0 {
		master, err := d.nameOf(ctx, l.Master)
		return "it is a port of " + master, err
	}
	for _, v6 := range []bool{false, true} {
		routes, err := d.host.Routes(ctx, v6)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(routes, func(r link.Entry) bool { return r.Index == l.Index && r.Dst.Bits() == 0 && *r.Table == mainTable }) {
			return "the host's default route leads through it", nil
		}
	}
	on, err := d.host.On(ctx, l.Index)
	if err != nil || len(on) == 0 {
		return "", err
	}
	return "it carries " + strings.Join(on, ", "), nil
}

// nameOf returns the name of the host's link with that index, "" if there is none.
func (d *driver) nameOf(ctx context.Context, index int) (string, error) {
	all, err := d.host.Links(ctx)
	for _, l := range all {
		if l.Index == index {
			return l.Name, err
		}
	}
	return "", err
}

const mainTable = 254 // RT_TABLE_MAIN (linux/rtnetlink.h)
