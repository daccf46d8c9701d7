package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A snapshot is everything on a host that a plugin could leave behind, as
// sorted lines by kind.
type snapshot map[string][]string

// snapshot takes one when no plugin works on the host any more: DEL returns
// once the link cannot be used, and leaves its end, for which the kernel waits
// some 20 ms, to a process of its own. And not before the kernel has told all of
// what has come to be of links.
func (h *host) snapshot() snapshot {
	h.t.Helper()
	eventually(h.t, func() error {
		for _, p := range h.processes() {
			if words := strings.Fields(p); len(words) > 1 && strings.HasPrefix(filepath.Base(words[1]), "bowline-") {
				return fmt.Errorf("still at work: %s", p)
			}
		}
		for _, l := range h.links() {
			if strings.Contains(l, "NO-CARRIER") && strings.Contains(l, "LOWER_UP") {
				return fmt.Errorf("the kernel has yet to tell of a carrier: %s", l)
			}
		}
		return nil
	})
	s := snapshot{
		"link":    h.links(),
		"address": h.addresses(),
		"route": lines(h.run("ip", "-4", "route", "show", "table", "all"),
			h.run("ip", "-6", "route", "show", "table", "all")),
		"neighbour": lines(h.run("ip", "neigh", "show", "nud", "permanent")),
		"rule":      lines(h.run("ip", "-4", "rule"), h.run("ip", "-6", "rule")),
		"nft":       strings.Split(h.run("nft", "-s", "list", "ruleset"), "\n"), // order matters
		"record":    h.records(),
		"mount":     h.mounts(),
		"process":   h.processes(),
	}
	return s
}

func lines(texts ...string) []string {
	var all []string
	for _, t := range texts {
		for l := range strings.Lines(t) {
			// What counts down is not a difference.
			l, _, _ = strings.Cut(strings.TrimSpace(l), " expires")
			// The kernel makes these some time after their link is up.
			if !strings.Contains(l, "fe80:") && !strings.Contains(l, "ff00::/8") {
				all = append(all, l)
			}
		}
	}
	slices.Sort(all)
	return all
}

func (h *host) links() []string {
	var links []struct {
		Ifname, Address, Master string
		MTU                     int
		Flags                   []string
		Linkinfo                struct {
			Kind string `json:"info_kind"`
		}
	}
	h.parse(&links, "ip", "-j", "-d", "link")
	var all []string
	for _, l := range links {
		all = append(all, fmt.Sprintf("%s kind=%s mac=%s mtu=%d master=%s %s", l.Ifname, l.Linkinfo.Kind, l.Address, l.MTU, l.Master, strings.Join(l.Flags, ",")))
	}
	slices.Sort(all)
	return all
}

func (h *host) addresses() []string {
	var links []struct {
		Ifname string
		Info   []struct {
			Local     string
			Prefixlen int
			Scope     string
		} `json:"addr_info"`
	}
	h.parse(&links, "ip", "-j", "addr")
	var all []string
	for _, l := range links {
		for _, a := range l.Info {
			if a.Scope != "link" { // made by the kernel, some time after its link
				all = append(all, fmt.Sprintf("%s %s/%d %s", l.Ifname, a.Local, a.Prefixlen, a.Scope))
			}
		}
	}
	slices.Sort(all)
	return all
}

// parse reads the JSON output of a command.
func (h *host) parse(v any, name string, args ...string) {
	h.t.Helper()
	out := h.run(name, args...)
	if strings.TrimSpace(out) == "" {
		return
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		h.t.Fatalf("%s %v: %v in %q", name, args, err, out)
	}
}

// records lists the files that Bowline keeps, and the leases of a delegated
// host-local. Locks, which are empty, and host-local's own marks may stay.
func (h *host) records() []string {
	var all []string
	for _, dir := range []string{"run", "lib", "plugins", "cni"} {
		filepath.WalkDir(filepath.Join(h.dir, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || isLock(p, d) {
				return nil
			}
			if strings.HasPrefix(p, filepath.Join(h.dir, "run", "meter")) { // tells of the past
				return nil
			}
			all = append(all, strings.TrimPrefix(p, h.dir+"/"))
			return nil
		})
	}
	slices.Sort(all)
	return all
}

// host-local, killed between making a file and writing the owner into it, leaves
// an address taken for ever; that is its own.
func isLock(path string, d fs.DirEntry) bool {
	info, err := d.Info()
	return err == nil && info.Size() == 0 && (strings.Contains(filepath.Base(path), "lock") || strings.Contains(path, "/cni/")) ||
		strings.HasPrefix(filepath.Base(path), "last_reserved_ip")
}

// mounts lists what is mounted in the host's directory.
func (h *host) mounts() []string {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for l := range strings.Lines(string(data)) {
		if f := strings.Fields(l); len(f) > 2 && strings.HasPrefix(f[1], h.dir+"/") {
			all = append(all, f[2]+" at "+f[1])
		}
	}
	slices.Sort(all)
	return all
}

// processes lists what was started on the host and still runs.
func (h *host) processes() []string {
	var all []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(dir + "/environ")
		if err != nil || !strings.Contains(string(env), "BOWLINE_E2E_HOST="+h.dir+"\x00") {
			continue
		}
		if cmd, err := os.ReadFile(dir + "/cmdline"); err == nil && len(cmd) > 0 {
			all = append(all, filepath.Base(dir)+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
		}
	}
	return all
}

// withoutNetworks returns s without what the containers of a network share and
// the allocator's marks: a failed ADD may leave them, like any ADD, to GC.
func (s snapshot) withoutNetworks() snapshot {
	return snapshot{
		"link":    slices.DeleteFunc(slices.Clone(s["link"]), func(l string) bool { return strings.Contains(l, "kind=bridge") }),
		"rule":    s["rule"],
		"mount":   s["mount"],
		"process": s["process"],
		"record": slices.DeleteFunc(slices.Clone(s["record"]), func(l string) bool {
			return strings.Contains(l, "/hint-") || strings.HasSuffix(l, "/network") || strings.HasSuffix(l, "/.keep")
		}),
	}
}

// withoutMarks returns s without what an allocator keeps of a network that has
// no container, so that these get their addresses back, and without a route
// that comes with forwarding, which the first network turns on and none off.
func (s snapshot) withoutMarks() snapshot {
	s = maps.Clone(s)
	s["record"] = slices.DeleteFunc(slices.Clone(s["record"]), func(l string) bool {
		return strings.Contains(l, "/hint-") || strings.Contains(l, "/names/") || strings.HasSuffix(l, "/network") || strings.HasSuffix(l, "/.keep")
	})
	s["route"] = slices.DeleteFunc(slices.Clone(s["route"]), func(l string) bool { return strings.HasPrefix(l, "anycast ") })
	return s
}

// withoutRecords returns s without what we and the allocator keep.
func (s snapshot) withoutRecords() snapshot {
	s = maps.Clone(s)
	delete(s, "record")
	return s
}

// diff says which lines came (+) and went (-), or "" if none did.
func diff(before, after snapshot) string {
	var b strings.Builder
	for _, kind := range []string{"link", "address", "route", "neighbour", "rule", "nft", "record", "mount", "process", "qdisc"} {
		for _, l := range before[kind] {
			if !slices.Contains(after[kind], l) {
				fmt.Fprintf(&b, "- %s: %s\n", kind, l)
			}
		}
		for _, l := range after[kind] {
			if !slices.Contains(before[kind], l) {
				fmt.Fprintf(&b, "+ %s: %s\n", kind, l)
			}
		}
	}
	return b.String()
}
