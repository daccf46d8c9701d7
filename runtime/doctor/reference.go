package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// Where libcni and host-local keep their state unless told otherwise.
const (
	resultsDir  = "/var/lib/cni/results"
	networksDir = "/var/lib/cni/networks"
)

// reference looks for what the CNI reference plugins leave behind when a DEL is
// lost: cached results, leases and iptables chains.
func (d *doctor) reference(ctx context.Context) {
	before := len(d.all)
	alive := d.cachedResults()
	d.leases(alive)
	d.chains(ctx, alive)
	if len(d.all) == before {
		d.say(OK, "the reference plugins left nothing behind", "")
	}
}

// cachedResults returns the containers that have a cached result and a
// namespace. Namespaces are asked of this process's view.
func (d *doctor) cachedResults() map[string]bool {
	alive := map[string]bool{}
	for _, path := range d.host.glob(resultsDir + "/*") {
		data, err := os.ReadFile(path)
		var cached struct{ Kind, ContainerID, Netns string }
		if err != nil || json.Unmarshal(data, &cached) != nil || cached.ContainerID == "" {
			d.say(Warn, path+" cannot be read as a cached result", "rm "+path)
			continue
		}
		if _, ok := netns.Stat(cached.Netns); ok {
			alive[cached.ContainerID] = true
			continue
		}
		d.say(Warn, fmt.Sprintf("the result of container %.20s is cached, but its namespace %q is gone", cached.ContainerID, cached.Netns), "rm "+path)
	}
	return alive
}

// leases looks at what host-local gave out: one file for each address.
func (d *doctor) leases(alive map[string]bool) {
	booted := d.booted()
	for _, dir := range d.host.glob(networksDir + "/*") {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // not a directory
		}
		var stale []string
		for _, e := range entries {
			if _, err := netip.ParseAddr(strings.TrimSuffix(e.Name(), "%")); err != nil {
				continue // a lock, or the last address given out
			}
			path := filepath.Join(dir, e.Name())
			data, err := os.ReadFile(path)
			info, infoErr := e.Info()
			if err != nil || infoErr != nil {
				continue // given back meanwhile
			}
			id, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\r\n")
			id, _, _ = strings.Cut(id, "\n")
			if id == "" || info.ModTime().Before(booted) || !alive[id] {
				stale = append(stale, path)
			}
		}
		if len(stale) > 0 {
			d.say(Warn, fmt.Sprintf("%d leases of network %q in %s are nobody's any more", len(stale), filepath.Base(dir), dir), rm(stale))
		}
	}
}

// rm returns the command that removes the files, or the first of them.
func rm(paths []string) string {
	const most = 4
	if len(paths) <= most {
		return "rm " + strings.Join(paths, " ")
	}
	return "rm " + strings.Join(paths[:most], " ") + fmt.Sprintf(" ... (%d more)", len(paths)-most)
}

// booted returns when the machine was, or the zero time if that is not known.
func (d *doctor) booted() time.Time {
	for line := range strings.Lines(d.host.read("/proc/stat")) {
		var seconds int64
		if n, _ := fmt.Sscanf(line, "btime %d", &seconds); n == 1 {
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
}

// chains looks for iptables chains of the reference bridge and portmap plugins
// whose container is gone.
func (d *doctor) chains(ctx context.Context, alive map[string]bool) {
	for _, command := range []string{"iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"} {
		if strings.HasSuffix(command, "-legacy") && d.host.read("/proc/net/"+strings.TrimSuffix(strings.Replace(command, "tables", "_tables", 1), "-legacy")+"_names") == "" {
			continue // asking would load them
		}
		out, err := output(ctx, command, "-t", "nat", "-S")
		if err != nil {
			continue // not installed, or of a kernel without
		}
		for _, name := range orphans(out, alive) {
			d.say(Warn, fmt.Sprintf("%s has the chain %s of a container that is gone", command, name),
				fmt.Sprintf("%s-save -t nat | grep -v %s | %s-restore -T nat", command, name, command))
		}
	}
}

// orphans returns the chains that rules jump to whose comment names a container
// that is not alive.
func orphans(rules string, alive map[string]bool) []string {
	var found []string
	for line := range strings.Lines(rules) {
		// -A POSTROUTING -s A -m comment --comment "name: \"NET\" id: \"ID\"" -j CNI-HASH
		_, after, ok := strings.Cut(line, `id: \"`)
		if !ok {
			continue
		}
		id, after, _ := strings.Cut(after, `\"`)
		_, target, ok := strings.Cut(after, "-j CNI-")
		if f := strings.Fields(target); ok && !alive[id] && len(f) > 0 && !slices.Contains(found, "CNI-"+f[0]) {
			found = append(found, "CNI-"+f[0])
		}
	}
	return found
}
