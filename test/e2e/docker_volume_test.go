package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestDockerVolumes drives one dockerd through the life of volumes.
func TestDockerVolumes(t *testing.T) {
	t.Parallel()
	if reference() {
		t.Skip("Docker's own volumes have none of it")
	}
	h := newDockerHost(t)
	if h.inside("sh", "-c", "command -v mkfs.btrfs").Run() != nil {
		netnstest.Skip(t, "needs mkfs.btrfs")
	}
	v := &volumes{dockerHost: h, bin: bin("bowline-volume")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("plugin:\n%s\ndockerd:\n%s", h.log("volume"), h.log("dockerd"))
		}
	})
	v.tool("init", "-size", "512M")
	v.serve()
	for _, sub := range []struct {
		name string
		f    func(v *volumes)
	}{
		{"life", volumeLife},
		{"snapshots and clones", volumeClones},
		{"sizes", volumeSizes},
		{"wrong options", volumeWrong},
		{"kills", volumeKills},
	} {
		if !h.scene(t, sub.name, v.left, func() { sub.f(v) }, v.removeAll) {
			return
		}
	}
	h.stop("volume", "TERM")
	v.tool("init", "-undo")
	if left := h.sh("losetup -n -O BACK-FILE | grep -F " + h.dir + " || true; grep -F pool /proc/self/mounts || true; ls " + h.dir + "/lib; ls /run/docker/plugins"); left != "volumes" {
		t.Errorf("left are\n%s", left)
	}
}

// volumes is a host with the plugin.
type volumes struct {
	*dockerHost
	bin string
}

func (v *volumes) serve() {
	v.t.Helper()
	v.start("volume", v.bin, "serve", "-log", "debug")
	v.eventually("volume", v.listens("/run/docker/plugins/bowline-volume.sock"))
}

// tool runs the command line, which must succeed.
func (v *volumes) tool(args ...string) string {
	v.t.Helper()
	out, err := v.inside(v.bin, args...).CombinedOutput()
	if err != nil {
		v.t.Fatalf("bowline-volume %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// refused runs the command line, which must fail with that in its message.
func (v *volumes) refused(want string, args ...string) {
	v.t.Helper()
	if out, err := v.inside(v.bin, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
		v.t.Errorf("bowline-volume %v: %v %s; want %q", args, err, out, want)
	}
}

// left is what volumes are on this host: directories, records and mounts.
func (v *volumes) left() snapshot {
	v.t.Helper()
	return snapshot{"volume": strings.Split(v.sh("ls "+v.dir+"/lib/pool; find "+v.dir+"/lib/volumes -type f ! -name '.*'; grep -c btrfs /proc/self/mounts; losetup -n -O BACK-FILE | grep -cF "+v.dir), "\n")}
}

func (v *volumes) removeAll() {
	v.t.Helper()
	v.dockerHost.removeAll()
	for _, name := range strings.Fields(v.cli("volume", "ls", "-q")) {
		v.cli("volume", "rm", name)
	}
}

func (v *volumes) create(name string, options ...string) {
	v.t.Helper()
	args := []string{"volume", "create", "-d", "bowline-volume"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	v.cli(append(args, name)...)
}

// does runs a shell line in a container that has the volume at /v.
func (v *volumes) does(name, line string) string {
	v.t.Helper()
	return v.cli("run", "--rm", "--network", "none", "-v", name+":/v", "bb:1", "sh", "-c", line)
}

// mounts is what the plugin says of the volume's users.
func (v *volumes) mounts(name string) (ids, users int) {
	v.t.Helper()
	var i struct{ Mounts, Users []string }
	if err := json.Unmarshal([]byte(v.tool("inspect", name)), &i); err != nil {
		v.t.Fatal(err)
	}
	return len(i.Mounts), len(i.Users)
}

func volumeLife(v *volumes) {
	v.create("data")
	v.does("data", "echo text >/v/f; mkfifo /v/fifo; ln /v/f /v/g")
	if got := v.does("data", "cat /v/g"); got != "text" {
		v.t.Errorf("a second container reads %q", got)
	}
	v.container("c1", "--network", "none", "-v", "data:/v")
	v.container("c2", "--network", "none", "-v", "data:/v:ro")
	if ids, users := v.mounts("data"); ids != 2 || users < 2 {
		v.t.Errorf("with two containers, the volume has %d mounts and %d users", ids, users)
	}
	if out, err := v.tryCLI("exec", "c2", "touch", "/v/no"); err == nil {
		v.t.Errorf("read-only, and written to: %s", out)
	}
	v.refused("in use by", "rm", "data")
	v.refused("in use by", "rm", "-force", "data")
	v.cli("rm", "-f", "c1", "c2")
	if ids, users := v.mounts("data"); ids != 0 || users != 0 {
		v.t.Errorf("without containers, the volume has %d mounts and %d users", ids, users)
	}
	out := v.cli("volume", "inspect", "data")
	for _, want := range []string{`"Driver": "bowline-volume"`, `"kind": "btrfs"`, `"owner": "bowline-e2e"`, `"Scope": "local"`} {
		if !strings.Contains(out, want) {
			v.t.Errorf("docker volume inspect says\n%s\nwant %s", out, want)
		}
	}
	if list := v.tool("list"); !strings.Contains(list, "data ") {
		v.t.Errorf("list prints\n%s", list)
	}
}

func volumeClones(v *volumes) {
	v.create("db")
	v.does("db", "echo one >/v/f")
	v.tool("snapshot", "db", "before")
	v.container("c1", "--network", "none", "-v", "db:/v")
	v.cli("exec", "c1", "sh", "-c", "echo two >/v/f")
	v.create("old", "from=db@before")
	v.create("copy", "clone=db", "size=64M") // while it is in use
	v.refused("in use by", "rollback", "db", "before")
	v.cli("rm", "-f", "c1")
	for name, want := range map[string]string{"old": "one", "copy": "two", "db": "two"} {
		if got := v.does(name, "cat /v/f"); got != want {
			v.t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	v.tool("rollback", "db", "before")
	if got := v.does("db", "cat /v/f"); got != "one" {
		v.t.Errorf("rolled back, it holds %q", got)
	}
	if list := v.tool("snapshots", "db"); strings.Count(list, "\n") != 1 || !strings.Contains(list, "before") {
		v.t.Errorf("snapshots are\n%s", list)
	}
	v.sh(v.bin + " send db before | " + v.bin + " receive sent")
	if got := v.does("sent", "cat /v/f"); got != "one" {
		v.t.Errorf("sent, it holds %q", got)
	}
}

func volumeSizes(v *volumes) {
	v.create("small", "size=16M")
	fill := "dd if=/dev/urandom of=/v/f bs=1M count=20 conv=fsync"
	if out, err := v.tryCLI("run", "--rm", "--network", "none", "-v", "small:/v", "bb:1", "sh", "-c", fill); err == nil || !strings.Contains(out, "uota") {
		v.t.Errorf("20 MiB into a volume of 16: %v %s", err, out)
	}
	v.tool("resize", "-size", "64M", "small")
	v.does("small", fill)
	v.refused("want at least", "resize", "-size", "1M", "small")
}

func volumeWrong(v *volumes) {
	for option, want := range map[string]string{
		"sise=1G": "want size", "size=big": "want a number of bytes", "from=x": "want VOLUME@SNAPSHOT", "from=x@y": "not found", "clone=x": "not found",
	} {
		if out, err := v.tryCLI("volume", "create", "-d", "bowline-volume", "-o", option, "wrong"); err == nil || !strings.Contains(out, want) {
			v.t.Errorf("option %s: %v %s; want %q", option, err, out, want)
		}
	}
	v.refused("not found", "snapshot", "nothing", "s")
	v.refused("want 1 to", "create", "../x")
}

// volumeKills: the plugin and dockerd are killed while a volume is in use.
func volumeKills(v *volumes) {
	v.create("kept")
	v.container("c1", "--network", "none", "-v", "kept:/v")
	v.stop("volume", "KILL")
	v.cli("exec", "c1", "sh", "-c", "echo text >/v/f") // nobody needs the plugin for that
	v.serve()
	if ids, _ := v.mounts("kept"); ids != 1 {
		v.t.Errorf("after a kill of the plugin, the volume has %d mounts", ids)
	}
	pid := v.containerPID("c1")
	v.stop("dockerd", "KILL")
	v.sh(fmt.Sprintf("kill -KILL %d", pid))
	v.startDockerd()
	v.cli("start", "c1")
	if got := v.cli("exec", "c1", "cat", "/v/f"); got != "text" {
		v.t.Errorf("after a kill of dockerd, the volume holds %q", got)
	}
	v.cli("rm", "-f", "c1")
	// IDs that were lost keep nobody from removing it, for Docker knows better.
	v.cli("volume", "rm", "kept")
	v.eventually("volume", func() error {
		if v.sh("ls "+v.dir+"/lib/pool") != "" {
			return errors.New("the volume is still there")
		}
		return nil
	})
}
