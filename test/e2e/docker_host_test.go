package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A dockerHost is a machine with Docker Engine.
type dockerHost struct {
	*machine
	docker string // the client
	live   bool   // dockerd runs with --live-restore
}

// newDockerHost returns a machine with containerd and dockerd running and the
// image bb:1. The engine is the machine's own, or what there is of dockerd,
// containerd, runc and docker in the directory $BOWLINE_E2E_DOCKER.
func newDockerHost(t *testing.T) *dockerHost {
	t.Helper()
	h := &dockerHost{machine: newMachine(t, "dockerd", "containerd", "runc", "iptables"), docker: "docker"}
	path := os.Getenv("PATH")
	if other := os.Getenv("BOWLINE_E2E_DOCKER"); other != "" {
		h.docker, path = filepath.Join(other, "docker"), other+":"+path
	} else if fileExists("/usr/bin/docker") { // a newer one elsewhere may refuse to talk to the package's dockerd
		h.docker = "/usr/bin/docker"
	}
	h.env = append(h.env, "PATH="+path, "BOWLINE_RUN_DIR="+h.dir+"/run", "BOWLINE_LIB_DIR="+h.dir+"/lib",
		"BOWLINE_PLUGIN_DIR=/run/docker/plugins", "DOCKER_HOST=unix://"+h.dir+"/docker.sock", "DOCKER_CONFIG="+h.dir)
	h.startContainerd()
	h.startDockerd()
	h.cli("import", "-c", "ENV PATH=/bin", h.image(), "bb:1")
	return h
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
