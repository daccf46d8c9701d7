package main

import (
	"os"
	"path/filepath"

	"github.com/bowline-net/bowline/internal/netns"
)

// An engine may have a mount namespace of its own. What is mounted there, where
// its sandboxes are and where we pinned them among it, others see through its
// processes only.

// hidden opens the namespace that the NIC went to if some process of this machine
// is in it, or sees it where it was pinned; nil if none does. alive says that
// somebody is inside, or that the engine still has it where it mounted it.
func (l loan) hidden() (ns *netns.Handle, alive bool) {
	seen := map[string]bool{}
	eachProcess(func(dir string) {
		if is(dir+"/ns/net", l.NetnsIno) {
			alive = true
			open(&ns, dir+"/ns/net")
		}
		mounts, err := os.Readlink(dir + "/ns/mnt")
		if err != nil || seen[mounts] {
			return
		}
		seen[mounts] = true
		for _, path := range []string{l.Pin, l.Sandbox} {
			if path != "" && is(dir+"/root"+path, l.NetnsIno) {
				alive = alive || path == l.Sandbox
				open(&ns, dir+"/root"+path)
			}
		}
	})
	return ns, alive
}

// inUse reports whether some process of this machine is in the NIC's namespace,
// which its engine may have mounted nowhere.
func (l loan) inUse() (yes bool) {
	eachProcess(func(dir string) { yes = yes || is(dir+"/ns/net", l.NetnsIno) })
	return yes
}

func eachProcess(f func(dir string)) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		f(dir)
	}
}

func is(path string, ino uint64) bool {
	id, ok := netns.Stat(path)
	return ok && id.Ino == ino
}

// open opens the namespace unless that was done.
func open(ns **netns.Handle, path string) {
	if *ns == nil {
		*ns, _ = netns.Open(path)
	}
}
