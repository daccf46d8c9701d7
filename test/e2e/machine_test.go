package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A machine is a host on which an engine runs: namespaces of its own for
// network, mounts, processes, name and IPC, with its own /run, and with
// /etc, /opt, /usr/lib, /usr/local and /var/lib to which only it writes. Everything on it
// ends with its first process, which ends with the test.
type machine struct {
	*host
	pid    int // of the first process
	cgroup string
}

// newMachine returns a machine on which nothing runs yet, and another one
// beyond it at 192.0.2.2 and 2001:db8::2. The test is skipped without the
// commands that it needs.
func newMachine(t *testing.T, needs ...string) *machine {
	t.Helper()
	netnstest.RequireRoot(t)
	for _, name := range append(needs, "nsenter") {
		if _, err := exec.LookPath(name); err != nil {
			netnstest.Skip(t, "needs "+name)
		}
	}
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	h := &machine{host: &host{t: t, dir: dir, used: map[string]conf{}}, cgroup: "bowline-e2e-" + filepath.Base(dir)}
	h.env = append(os.Environ(), "BOWLINE_E2E_HOST="+dir)
	t.Cleanup(func() { h.removeDir() })
	h.boot()
	h.run("ip", "link", "set", "lo", "up")
	h.outside()
	return h
}

// groupScript puts itself and what follows into control groups of that name, of
// which initScript then sees no others: it ends with the namespace $3, "cgroup"
// where the machine has control groups version 1.
const groupScript = `set -e
v=
for c in $(awk '$3 == "cgroup" && $2 ~ "^/sys/fs/cgroup/" { print $2 }' /proc/self/mounts); do
	v=--cgroup
	mkdir "$c/$3"
	if [ -f "$c/cpuset.cpus" ]; then
		cat "$c/cpuset.cpus" >"$c/$3/cpuset.cpus"
		cat "$c/cpuset.mems" >"$c/$3/cpuset.mems"
	fi
	echo $$ >"$c/$3/cgroup.procs"
done
exec unshare $v -- bash -c "$1" init "$2" "$3" $v
`

// initScript is the first process. It ends when its standard input does, and
// waits for orphans meanwhile.
const initScript = `set -e
mount --make-rprivate /
mount -t proc proc /proc
hostname bowline-e2e
# Copies of other programs' mounts would keep theirs alive.
awk '($3 == "nsfs" || $3 == "overlay") && $2 != "/" { print $2 }' /proc/self/mounts | tac | while read -r m; do umount -l "$m" || true; done
# sysfs shows the network namespace of whoever mounts it; the cgroups stay.
mkdir -p "$1/cgroup"
mount --rbind /sys/fs/cgroup "$1/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$1/cgroup" /sys/fs/cgroup
umount -l "$1/cgroup"
if [ -f /sys/fs/cgroup/unified/cgroup.procs ]; then umount /sys/fs/cgroup/unified || true; fi
# Control groups that engines make, whatever their names, are below one.
if [ -n "$3" ]; then
	awk '$3 == "cgroup" && $2 ~ "^/sys/fs/cgroup/" { print $2, $4 }' /proc/self/mounts | while read -r c options; do
		umount "$c"
		mount -t cgroup -o "$options" cgroup "$c"
	done
fi
mount -t tmpfs tmpfs /run
# What engines and make install write to is the machine's own.
mkdir "$1/over"
mount -t tmpfs tmpfs "$1/over"
for d in etc opt usr/lib usr/local var/lib; do
	mkdir -p "$1/over/$d/new" "$1/over/$d/work"
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=$1/over/$d/new,workdir=$1/over/$d/work" "/$d"
done
umount -l "$1/over"
rmdir "$1/over"
rm -rf /etc/docker /etc/containers/containers.conf /opt/cni
mkdir -p /run/docker/plugins /run/netns /run/lock /etc/docker /etc/cni/net.d
own() {
	mkdir -p "$1" "$2"
	mount --bind "$1" "$2"
}
own "$1/run" /run/bowline
own "$1/lib" /var/lib/bowline
own "$1/cni" /var/lib/cni
own "$1/containerd" /var/lib/containerd
own "$1/containers" /var/lib/containers
mount --make-rshared /
# Only a dockerd that turns forwarding on itself sets FORWARD to DROP.
echo 0 >/proc/sys/net/ipv4/ip_forward
echo ready
cat <&0 >/dev/null &
wait $!
`

// boot starts the first process.
func (h *machine) boot() {
	h.t.Helper()
	cmd := exec.Command("bash", "-c", groupScript, "init", initScript, h.dir, h.cgroup)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill() // and with it everything in its process namespace
		cmd.Wait()
		h.removeCgroups()
	})
	b := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(stdout, b); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		h.t.Fatalf("host does not come up: %v\n%s", err, errs.String())
	}
	h.pid = cmd.Process.Pid
	if h.ns, err = netns.Open(fmt.Sprintf("/proc/%d/ns/net", h.pid)); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { h.ns.Close() })
}

// inside prepares a command that runs on the host, in all its namespaces.
func (h *machine) inside(name string, args ...string) *exec.Cmd {
	return h.command("nsenter", append([]string{"-t", strconv.Itoa(h.pid), "-n", "-m", "-p", "-u", "-i", "-C", "--", name}, args...)...)
}

// sh runs a shell line on the host and returns what it prints.
func (h *machine) sh(line string) string {
	h.t.Helper()
	out, err := h.inside("sh", "-c", line).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// start starts a daemon on the host that writes its log to a file and leaves
// its process ID, as the host sees it, in /run/NAME.pid.
func (h *machine) start(name string, args ...string) {
	h.t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := h.inside("sh", append([]string{"-c", `echo $$ >/run/` + name + `.pid; exec "$@"`, "sh"}, args...)...)
	// Without the mark of what a test leaves behind: it ends with the host.
	cmd.Env = slices.DeleteFunc(slices.Clone(cmd.Env), func(v string) bool { return strings.HasPrefix(v, "BOWLINE_E2E_HOST=") })
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go cmd.Wait() // ends with the host at the latest
}

// stop sends the signal to a daemon and waits for its end.
func (h *machine) stop(name string, signal string) {
	h.t.Helper()
	h.sh(fmt.Sprintf("kill -%s $(cat /run/%s.pid)", signal, name))
	h.eventually(name, func() error {
		if h.inside("sh", "-c", fmt.Sprintf("kill -0 $(cat /run/%s.pid)", name)).Run() == nil {
			return errors.New("does not end")
		}
		return nil
	})
}

// eventually polls for 60 seconds and shows the daemon's log if that fails.
func (h *machine) eventually(name string, f func() error) {
	h.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: %v\n%s", name, err, h.log(name))
		}
	}
}

// log returns the end of a daemon's log.
func (h *machine) log(name string) string {
	b, err := os.ReadFile(filepath.Join(h.dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8000):])
}

// listens returns a condition: somebody listens on that socket of the host.
func (h *machine) listens(path string) func() error {
	return func() error {
		c, err := net.Dial("unix", fmt.Sprintf("/proc/%d/root%s", h.pid, path))
		if err == nil {
			c.Close()
		}
		return err
	}
}

// removeCgroups removes what containers leave in the machine's cgroups.
func (h *machine) removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/" + h.cgroup, "/sys/fs/cgroup/*/" + h.cgroup} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			var dirs []string
			filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, p)
				}
				return nil
			})
			slices.Reverse(dirs)
			for _, d := range dirs {
				eventually(h.t, func() error { return os.Remove(d) }) // busy while processes end
			}
		}
	}
}

// removeDir removes the host's files, once the last mount in them is gone.
func (h *machine) removeDir() {
	eventually(h.t, func() error { return os.RemoveAll(h.dir) })
}

// snapshot is that of a host, and what is mounted where sandboxes are.
func (h *machine) snapshot() snapshot {
	h.t.Helper()
	s := h.host.snapshot()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", h.pid))
	if err != nil {
		h.t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		if f := strings.Fields(l); strings.HasPrefix(f[1], "/run/netns/") || strings.HasPrefix(f[1], "/run/bowline/") {
			s["mount"] = append(s["mount"], f[2]+" at "+f[1])
		}
	}
	slices.Sort(s["mount"])
	return s
}

// scene runs f, and clean after it, as a test of its own that leaves the machine
// as it was, by what state tells. It returns whether to go on: after a failure,
// what follows would fail for no reason of its own.
func (h *machine) scene(t *testing.T, name string, state func() snapshot, f, clean func()) bool {
	outer := h.t
	return t.Run(name, func(t *testing.T) {
		h.t = t
		t.Cleanup(func() { h.t = outer })
		before := state()
		f()
		clean()
		eventually(t, func() error { // namespaces end a little after their last process
			if d := diff(before, state()); d != "" {
				return fmt.Errorf("the host is not as it was before the test:\n%s", d)
			}
			return nil
		})
	})
}
