package bowline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bowline-net/bowline"

// A room is a directory and what its non-test files may import of ours. It
// says the same as .golangci.yml, and needs nothing but Go.
type room struct {
	dir string // and below; the longest match counts
	may []string
	why string
}

var rooms = []room{
	{"", nil, "the root is words and a contract; everything may import it because it imports nothing"},
	{"internal/undo", nil, "a foundation"},
	{"internal/jsontext", nil, "a foundation"},
	{"internal/prefault", nil, "a foundation"},
	{"internal/state", []string{"", "internal/jsontext"}, "a foundation; records are made of the words that everybody shares"},
	{"internal/netns", nil, "a foundation"},
	{"internal/meter", nil, "a foundation"},
	{"internal/plan", nil, "a foundation"},
	{"internal/journal", nil, "a foundation"},
	{"internal/table", nil, "a foundation"},
	{"internal/netns/netnstest", []string{"internal/netns"}, "throwaway namespaces, for tests"},
	{"internal/socket", nil, "a foundation"},
	{"internal/link", []string{"", "internal/netns", "internal/plan"}, "kernel verbs know nothing of protocols, records or plans"},
	{"internal/nft", []string{"", "internal/netns", "internal/plan"}, "kernel verbs know nothing of protocols, records or plans"},
	{"internal/overlay", []string{""}, "decides what a node's kernel must have without touching one"},
	{"internal/overlay/kernel", []string{"", "internal/overlay", "internal/link", "internal/nft", "internal/netns", "internal/undo"}, "does to a kernel what the overlay decides; knows no store, face or record"},
	{"ipam", []string{"", "internal/state", "internal/netns", "internal/jsontext"}, "addresses are decided without touching the kernel; netns tells who still lives"},
	{"ipam/command", []string{"internal/journal"}, "a command line knows neither addresses nor leases"},
	{"ipam/bowline-ipam", []string{"", "ipam", "ipam/command", "internal/plugin", "internal/cni", "internal/cnm", "internal/socket", "internal/state", "internal/meter", "internal/journal", "internal/netns"}, "the faces of ipam"},
	{"internal/dhcp", []string{"", "internal/socket", "internal/state"}, "every plugin links it to ask the daemon: words and a socket"},
	{"internal/dhcp/wire", []string{"", "internal/netns"}, "packets know nothing of leases, records or callers"},
	{"internal/dhcp/keeper", []string{"", "internal/dhcp", "internal/dhcp/wire", "internal/journal", "internal/link", "internal/meter", "internal/netns", "internal/socket", "internal/state", "internal/undo"}, "the daemon keeps leases; it knows no face and no driver"},
	{"ipam/bowline-dhcp", []string{"", "internal/cni", "internal/dhcp", "internal/dhcp/keeper", "ipam/command"}, "the faces of the daemon"},
	{"internal/cni", []string{"", "ipam", "internal/dhcp", "internal/jsontext", "internal/state", "internal/meter", "internal/plan", "internal/journal", "internal/link", "internal/netns", "internal/socket", "internal/undo"}, "a face knows the contract, never a driver"},
	{"internal/cnm", []string{"", "ipam", "internal/dhcp", "internal/state", "internal/meter", "internal/journal", "internal/link", "internal/netns", "internal/socket", "internal/undo"}, "a face knows the contract, never a driver"},
	{"internal/plugin", []string{"", "ipam", "internal/prefault", "internal/cni", "internal/cnm", "internal/socket", "internal/state", "internal/meter", "internal/plan", "internal/journal", "internal/netns", "internal/link", "internal/table"}, "the main of every plugin holds a driver behind the faces"},
	{"internal/cluster", []string{""}, "what nodes share: an interface, its keys and the watch that all stores have in common"},
	{"internal/cluster/memory", []string{"", "internal/cluster"}, "a store; it knows no other"},
	{"internal/cluster/etcd", []string{"", "internal/cluster"}, "a store; it knows no other"},
	{"internal/cluster/member", []string{""}, "a server, whose clients are as everybody's"},
	{"internal/cluster/clustertest", []string{"", "internal/cluster"}, "what every store must do, said once"},
	{"internal/volume", []string{""}, "words and plans know no file system"},
	{"internal/volume/frame", []string{"internal/volume"}, "frames know nothing of what is in them"},
	{"internal/volume/tree", []string{"", "internal/volume"}, "copies know nothing of volumes and pools"},
	{"internal/volume/fsys", []string{"internal/volume"}, "a foundation of back-ends"},
	{"internal/volume/btrfs", []string{"", "internal/undo", "internal/volume", "internal/volume/fsys", "internal/volume/tree"}, "a back-end knows no records and no other back-end"},
	{"internal/volume/dir", []string{"", "internal/undo", "internal/volume", "internal/volume/fsys", "internal/volume/tree"}, "a back-end knows no records and no other back-end"},
	{"internal/volume/pool", []string{"", "internal/state", "internal/undo", "internal/volume", "internal/volume/frame", "internal/volume/fsys", "internal/volume/btrfs", "internal/volume/dir"}, "records and back-ends meet here; it knows no protocol"},
	{"plugins/volume-migrate", []string{"", "internal/journal", "internal/socket", "internal/state", "internal/table", "internal/volume", "internal/volume/pool"}, "the faces of pool: a command line and Docker's"},
	{"internal/volume/volumetest", []string{"", "internal/netns/netnstest", "internal/volume", "internal/volume/frame", "internal/volume/fsys"}, "what every back-end must do, said once"},
	{"internal/drivertest", []string{"", "internal/netns", "internal/netns/netnstest", "internal/link", "internal/nft", "internal/state", "internal/undo"}, "what every driver must do, said once"},
	{"internal/tune", []string{"", "internal/link"}, "options that several drivers have, and what they mean in a sandbox"},
	{"internal/endpoint", []string{"", "internal/plugin", "internal/tune", "internal/link", "internal/nft", "internal/plan"}, "what drivers share about endpoints; nothing of one kind of network"},
	{"plugins", []string{"", "internal/plugin", "internal/endpoint", "internal/tune", "internal/link", "internal/nft", "internal/plan", "internal/state", "internal/undo", "internal/netns"}, "a plugin is a driver; it never imports another plugin, a face or the runtime"},
	{"runtime", []string{"", "internal/cni", "internal/netns", "internal/state", "internal/meter", "internal/socket", "internal/undo"}, "the runtime is a client like any engine: it calls plugins through their public protocols only"},
	{"runtime/demo", []string{"", "runtime", "internal/state"}, "a client of the runtime"},
	{"runtime/metrics", []string{"", "runtime", "internal/meter", "internal/state"}, "a client of the runtime, for Prometheus"},
	{"runtime/bowline", []string{"", "runtime", "runtime/demo", "runtime/doctor", "runtime/metrics", "internal/journal"}, "the command line of runtime"},
	{"runtime/doctor", []string{"", "runtime", "internal/link", "internal/nft", "internal/netns", "internal/state"}, "tries what drivers will need, with the drivers' own means"},
	{"test/e2e", []string{"internal/netns", "internal/netns/netnstest"}, "drives built binaries; namespaces are its hosts"},
	{"bench", []string{"internal/netns"}, "drives built binaries; namespaces are its hosts"},
	{"hack", nil, "tools of the repository"},
}

// owners says who alone may import a module of others.
var owners = []struct {
	path string // and below
	dirs []string
	why  string
}{
	{"github.com/vishvananda/netlink", []string{"internal/link"}, "one room speaks netlink"},
	{"github.com/google/nftables", []string{"internal/nft"}, "one room speaks nftables"},
	{"github.com/coreos/go-iptables", []string{"internal/nft"}, "iptables is for coexistence only"},
	{"github.com/containernetworking/cni", []string{"internal/cni", "internal/plugin", "ipam/bowline-ipam", "runtime"}, "CNI is a face"},
	{"github.com/containernetworking/plugins", nil, "its types are not our contract"},
	{"github.com/spf13/cobra", []string{"runtime/bowline"}, "the command line only; it slows the start of a process"},
	{"github.com/insomniacslk/dhcp", []string{"internal/dhcp/wire"}, "one room speaks DHCP"},
	{"github.com/prometheus", []string{"runtime/metrics", "test/e2e"}, "metrics are served by the command line, whose start nobody waits for"},
	{"k8s.io/cri-api", []string{"test/e2e"}, "the tests speak to containerd as the kubelet does"},
	{"google.golang.org/grpc", []string{"test/e2e", "internal/cluster/etcd"}, "the tests speak to containerd as the kubelet does; etcd answers with its codes"},
	{"go.etcd.io/etcd/server", []string{"internal/cluster/member"}, "30 MB that only who runs a member links"},
	{"go.etcd.io/etcd", []string{"internal/cluster/etcd", "internal/cluster/member"}, "all others know the store by internal/cluster"},
	{"go.uber.org/zap", []string{"internal/cluster/etcd", "internal/cluster/member"}, "etcd's logger, for etcd"},
	{"unsafe", []string{"internal/link", "internal/nft", "internal/netns", "internal/prefault", "internal/meter", "internal/volume/btrfs"}, "system calls, and memory that processes share"},
}

// unlinked is what a CNI executable, or a lean room, must not link, because process start is
// most of what an attachment costs. A package named in via may import it.
var unlinked = []struct {
	path string
	via  []string
	why  string
}{
	{"regexp", []string{"github.com/coreos/go-iptables/iptables", "internal/tune"}, "compiling expressions is work at every start; go-iptables has one, 10 µs; the allow-list is read if settings are asked for only"},
	{"net/http", nil, "0.4 ms; internal/socket speaks the little HTTP it takes"},
	{"github.com/containernetworking/cni/libcni", nil, "pulls OpenTelemetry, 0.3 ms"},
	{"github.com/containernetworking/cni/pkg/invoke", nil, "pulls OpenTelemetry, 0.3 ms"},
	{"github.com/spf13/cobra", nil, "a CNI executable has no command tree"},
	{"go.opentelemetry.io/otel", nil, "0.3 ms; trace context is passed on as text"},
	{"google.golang.org/grpc", nil, "2.5 ms"},
	{"go.etcd.io/etcd", nil, "5 ms; an agent holds the client"},
	{"github.com/insomniacslk/dhcp", []string{"internal/dhcp/wire"}, "0.2 ms; plugins ask the daemon"},
	{"github.com/prometheus", nil, "net/http and much else"},
}

// executables are the binaries that engines start once per attachment.
var executables = []string{"plugins/bridge", "plugins/macvlan", "plugins/host", "ipam/bowline-ipam", "ipam/bowline-dhcp"}

// lean are rooms that executables may link: what is not linked there is neither
// by whoever knows the cluster's store by its interface.
var lean = []string{"internal/cluster", "internal/cluster/memory"}

type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
	Incomplete   bool
}

// list runs go list -json.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-e", "-json=ImportPath,Dir,Name,Standard,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as shipped
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	var ps []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

// below reports whether path is dir or inside it.
func below(p, dir string) bool { return p == dir || dir == "" || strings.HasPrefix(p, dir+"/") }

// local returns the directory of one of our packages within the module.
func local(importPath string) (dir string, ok bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func roomOf(dir string) room {
	var best room
	for _, r := range rooms {
		if below(dir, r.dir) && len(r.dir) >= len(best.dir) && (r.dir != "" || dir == "") {
			best = r
		}
	}
	return best
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		dir, _ := local(p.ImportPath)
		r := roomOf(dir)
		if r.dir == "" && dir != "" {
			t.Errorf("%s: no rule in layers_test.go says what may be imported there", dir)
			continue
		}
		for _, imp := range p.Imports {
			if of, ok := local(imp); ok && of != dir && !slices.Contains(r.may, of) {
				t.Errorf("%s imports %q, may import %q: %s", or(dir, "the root"), or(of, "the root"), r.may, r.why)
			}
			for _, o := range owners {
				if below(imp, o.path) && !slices.ContainsFunc(o.dirs, func(d string) bool { return below(dir, d) }) {
					t.Errorf("%s imports %s, which only %q may: %s", or(dir, "the root"), imp, o.dirs, o.why)
				}
			}
			if first, _, _ := strings.Cut(imp, "/"); dir == "" && strings.Contains(first, ".") {
				t.Errorf("the root imports %s: it imports the standard library only", imp)
			}
		}
		if below(dir, "test/e2e") || below(dir, "bench") {
			for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
				if of, ok := local(imp); ok && of != dir && !slices.Contains(r.may, of) {
					t.Errorf("tests of %s import %q, may import %q: %s", dir, of, r.may, r.why)
				}
			}
		}
	}
}

// TestLinked follows what each CNI executable links from its main package, and
// what each lean room does.
func TestLinked(t *testing.T) {
	t.Parallel()
	for _, exe := range slices.Concat(executables, lean) {
		if _, err := os.Stat(exe); err != nil {
			t.Errorf("%s is not there", exe)
			continue
		}
		from := map[string]string{} // who imports it, for the chain in the message
		for _, p := range list(t, "-deps", "./"+exe) {
			for _, imp := range p.Imports {
				if from[imp] == "" {
					from[imp] = p.ImportPath
				}
				for _, u := range unlinked {
					if below(imp, u.path) && !excused(p, u.path, u.via) {
						t.Errorf("%s links %s through %s: %s", exe, imp, p.ImportPath, u.why)
					}
				}
			}
		}
	}
}

// excused reports whether p may import u: it is u itself, of the standard
// library for which only the first step counts, or one of via.
func excused(p pkg, u string, via []string) bool {
	if below(p.ImportPath, u) {
		return true
	}
	if p.Standard {
		return len(via) > 0
	}
	dir, _ := local(p.ImportPath)
	return slices.Contains(via, dir) || slices.Contains(via, p.ImportPath)
}

func or(s, empty string) string {
	if s == "" {
		return empty
	}
	return path.Clean(s)
}
