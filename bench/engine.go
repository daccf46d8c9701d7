package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// An engine is a host on which dockerd runs, with namespaces of its own for
// network, mounts and processes, and its own /run, /etc and /var/lib in memory.
// All of it ends with its first process.
type engine struct {
	*host
	first  *exec.Cmd
	cgroup string
	client http.Client
}

// firstProcess prepares the host in the directory $1 and ends when its standard
// input does. Only a dockerd that finds forwarding off sets FORWARD to drop.
const firstProcess = `set -e
mount --make-rprivate /
mount -t proc proc /proc
# Copies of other programs' mounts would keep theirs alive.
awk '($3 == "nsfs" || $3 == "overlay") && $2 != "/" { print $2 }' /proc/self/mounts | tac | while read -r m; do umount -l "$m" || true; done
mkdir "$1/cgroup" "$1/over"
mount --rbind /sys/fs/cgroup "$1/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$1/cgroup" /sys/fs/cgroup
umount -l "$1/cgroup"
mount -t tmpfs tmpfs "$1/over"
for d in etc var/lib; do
	mkdir -p "$1/over/$d/new" "$1/over/$d/work"
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=$1/over/$d/new,workdir=$1/over/$d/work" "/$d"
done
umount -l "$1/over"
rm -rf /etc/docker /var/lib/bowline
mount -t tmpfs tmpfs /run
mkdir -p /run/docker/plugins /run/lock
mount --make-rshared /
echo 0 >/proc/sys/net/ipv4/ip_forward
echo ready
cat <&0 >/dev/null &
wait $!
`

// newEngine starts dockerd with these arguments on a host of its own, with the
// plugin if the side is ours.
func newEngine(ctx context.Context, s side, args ...string) (*engine, error) {
	dir, err := os.MkdirTemp("", "bowline-bench") // not below /run, which the host has its own of
	if err != nil {
		return nil, err
	}
	e := &engine{host: &host{dir: dir, side: s}, cgroup: filepath.Base(dir)}
	e.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", dir+"/docker.sock")
	}}
	if err := e.boot(); err != nil {
		e.close()
		return nil, err
	}
	if s.ours {
		err = e.start("plugin", filepath.Join(s.bin, "bowline-bridge"), "serve", "-log", "error")
	}
	if err == nil {
		err = e.start("dockerd", append([]string{"dockerd", "--data-root", "/run/data", "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
			"-H", "unix://" + dir + "/docker.sock", "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/" + e.cgroup}, args...)...)
	}
	if err == nil {
		err = e.answers(ctx)
	}
	if err == nil {
		err = e.image(ctx)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// boot starts the first process.
func (e *engine) boot() error {
	e.first = exec.Command("bash", "-c", firstProcess, "init", e.dir)
	e.first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	var errs bytes.Buffer
	e.first.Stderr = &errs
	if _, err := e.first.StdinPipe(); err != nil {
		return err
	}
	stdout, err := e.first.StdoutPipe()
	if err != nil {
		return err
	}
	if err := e.first.Start(); err != nil {
		return err
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		return fmt.Errorf("host does not come up: %w: %s", err, errs.String())
	}
	if e.ns, err = netns.Open(fmt.Sprintf("/proc/%d/ns/net", e.first.Process.Pid)); err != nil {
		return err
	}
	return e.plug()
}

// start starts a daemon on the host, whose log is a file.
func (e *engine) start(name string, args ...string) error {
	log, err := os.Create(filepath.Join(e.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(e.first.Process.Pid), "-n", "-m", "-p", "-u", "-i", "--"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // ends with the host
	return nil
}

// close ends the host and all that is on it.
func (e *engine) close() {
	if e.first != nil && e.first.Process != nil {
		e.first.Process.Kill() // and with it all in its process namespace
		e.first.Wait()
	}
	if e.ns != nil {
		e.ns.Close()
	}
	for _, pattern := range []string{"/sys/fs/cgroup/" + e.cgroup, "/sys/fs/cgroup/*/" + e.cgroup} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			removeGroups(root)
		}
	}
	os.RemoveAll(e.dir)
}

// removeGroups removes control groups, from the leaves on.
func removeGroups(root string) {
	var dirs []string
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		tick := time.NewTicker(20 * time.Millisecond)
		for range 100 { // busy while processes end
			if err := os.Remove(d); err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			<-tick.C
		}
		tick.Stop()
	}
}
