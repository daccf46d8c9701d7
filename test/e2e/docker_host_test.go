package e2e

import (
	"archive/tar"
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

// A dockerHost is a machine with Docker Engine: namespaces of its own for
// network, mounts, processes, name and IPC, with its own /run and /etc/docker.
// Everything on it ends with its first process, which ends with the test.
type dockerHost struct {
	*host
	pid    int    // of the first process
	docker string // the client
	cgroup string
	live   bool // dockerd runs with --live-restore
}

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
mount -t tmpfs tmpfs /run
mkdir -p /run/docker/plugins /run/netns /run/lock /etc/docker
mount -t tmpfs tmpfs /etc/docker
mount --make-rshared /
# Only a dockerd that turns forwarding on itself sets FORWARD to DROP.
echo 0 >/proc/sys/net/ipv4/ip_forward
echo ready
cat <&0 >/dev/null &
wait $!
`

// newDockerHost returns a machine with containerd and dockerd running, the
// image bb:1, and a machine beyond it at 192.0.2.2 and 2001:db8::2. The engine
// is the machine's own, or what there is of dockerd, containerd, runc and
// docker in the directory $BOWLINE_E2E_DOCKER.
func newDockerHost(t *testing.T) *dockerHost {
	t.Helper()
	netnstest.RequireRoot(t)
	for _, name := range []string{"dockerd", "containerd", "runc", "nsenter", "iptables"} {
		if _, err := exec.LookPath(name); err != nil {
			netnstest.Skip(t, "needs "+name)
		}
	}
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	h := &dockerHost{host: &host{t: t, dir: dir, used: map[string]conf{}}, docker: "docker", cgroup: "bowline-e2e-" + filepath.Base(dir)}
	path := os.Getenv("PATH")
	if other := os.Getenv("BOWLINE_E2E_DOCKER"); other != "" {
		h.docker, path = filepath.Join(other, "docker"), other+":"+path
	} else if fileExists("/usr/bin/docker") { // a newer one elsewhere may refuse to talk to the package's dockerd
		h.docker = "/usr/bin/docker"
	}
	h.env = append(os.Environ(), "PATH="+path, "BOWLINE_RUN_DIR="+dir+"/run", "BOWLINE_LIB_DIR="+dir+"/lib",
		"BOWLINE_PLUGIN_DIR=/run/docker/plugins", "BOWLINE_E2E_HOST="+dir,
		"DOCKER_HOST=unix://"+dir+"/docker.sock", "DOCKER_CONFIG="+dir)
	t.Cleanup(func() { h.removeDir() })
	h.boot()
	h.run("ip", "link", "set", "lo", "up")
	h.outside()
	h.startContainerd()
	h.startDockerd()
	h.cli("import", "-c", "ENV PATH=/bin", h.image(), "bb:1")
	return h
}

// boot starts the first process.
func (h *dockerHost) boot() {
	h.t.Helper()
	cmd := exec.Command("bash", "-c", initScript, "init", h.dir)
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
func (h *dockerHost) inside(name string, args ...string) *exec.Cmd {
	return h.command("nsenter", append([]string{"-t", strconv.Itoa(h.pid), "-n", "-m", "-p", "-u", "-i", "--", name}, args...)...)
}

// sh runs a shell line on the host and returns what it prints.
func (h *dockerHost) sh(line string) string {
	h.t.Helper()
	out, err := h.inside("sh", "-c", line).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// start starts a daemon on the host that writes its log to a file and leaves
// its process ID, as the host sees it, in /run/NAME.pid.
func (h *dockerHost) start(name string, args ...string) {
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
func (h *dockerHost) stop(name string, signal string) {
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
func (h *dockerHost) eventually(name string, f func() error) {
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
func (h *dockerHost) log(name string) string {
	b, err := os.ReadFile(filepath.Join(h.dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8000):])
}

// startContainerd starts containerd apart from dockerd, so that it survives
// when dockerd is killed.
func (h *dockerHost) startContainerd() {
	h.t.Helper()
	config := filepath.Join(h.dir, "containerd.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = \"/run/containerd\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"/run/containerd/containerd.sock\"\n", h.dir+"/containerd")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.start("containerd", "containerd", "-c", config)
	h.eventually("containerd", h.listens("/run/containerd/containerd.sock"))
}

// listens returns a condition: somebody listens on that socket of the host.
func (h *dockerHost) listens(path string) func() error {
	return func() error {
		c, err := net.Dial("unix", fmt.Sprintf("/proc/%d/root%s", h.pid, path))
		if err == nil {
			c.Close()
		}
		return err
	}
}

func (h *dockerHost) startDockerd() {
	h.t.Helper()
	args := []string{"dockerd", "--data-root", h.dir + "/docker", "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
		"-H", "unix://" + h.dir + "/docker.sock", "--containerd", "/run/containerd/containerd.sock",
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/" + h.cgroup}
	if os.Getenv("BOWLINE_E2E_DOCKER") != "" { // often built without the library for it
		args = append(args, "--seccomp-profile", "unconfined", "--userland-proxy=false")
	}
	if h.live {
		args = append(args, "--live-restore")
	}
	h.start("dockerd", args...)
	h.eventually("dockerd", func() error {
		out, err := h.command(h.docker, "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// cli runs the docker client and returns what it prints, trimmed.
func (h *dockerHost) cli(args ...string) string {
	h.t.Helper()
	out, err := h.tryCLI(args...)
	if err != nil {
		h.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h *dockerHost) tryCLI(args ...string) (string, error) {
	out, err := h.command(h.docker, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// image writes the file system of the image: busybox under all its names.
func (h *dockerHost) image() string {
	h.t.Helper()
	path := filepath.Join(h.dir, "bb.tar")
	f, err := os.Create(path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	box, err := exec.LookPath("busybox")
	if err != nil {
		netnstest.Skip(h.t, "needs busybox-static")
	}
	data, err := os.ReadFile(box)
	if err != nil {
		h.t.Fatal(err)
	}
	list, err := exec.Command(box, "--list").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	put := func(hd tar.Header, body []byte) {
		hd.Size = int64(len(body))
		if err := w.WriteHeader(&hd); err != nil {
			h.t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, d := range []string{"bin/", "etc/", "proc/", "sys/", "dev/", "tmp/"} {
		put(tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil)
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, data)
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, nil)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// removeCgroups removes what containers leave in the machine's cgroups.
func (h *dockerHost) removeCgroups() {
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
func (h *dockerHost) removeDir() {
	eventually(h.t, func() error { return os.RemoveAll(h.dir) })
}
