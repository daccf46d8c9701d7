package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A criHost is a machine with containerd, as a node of Kubernetes has it.
type criHost struct {
	*machine
	*criClient
	plugins string // where containerd looks for plugins
}

// newCRIHost returns a machine whose containerd is to be started yet: the
// distribution's, or that of another directory, whose commands come first.
func newCRIHost(t *testing.T, other string) *criHost {
	t.Helper()
	h := &criHost{machine: newMachine(t, "containerd", "ctr", "runc", "busybox")}
	h.plugins = "/usr/lib/cni"
	if other != "" {
		h.plugins = "/opt/cni/bin"
		h.env = append(h.env, "PATH="+other+":"+os.Getenv("PATH"))
		h.sh("rm -f /etc/containerd/config.toml") // of the distribution's
	} else if !fileExists("/etc/containerd/config.toml") { // which not all distributions have
		h.write("/etc/containerd/config.toml", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\n")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h.sh("ln -s " + self + " /usr/local/bin/crictl")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("containerd:\n%s", h.log("containerd"))
		}
	})
	return h
}

// startContainerd starts containerd with what is in /etc/containerd, and waits
// until it has its images and its network.
func (h *criHost) startContainerd() {
	h.t.Helper()
	// It asks for less than nobody may, and root without CAP_SYS_RESOURCE may not.
	const restrict = "restrict_oom_score_adj"
	h.sh(`cd /etc/containerd 2>/dev/null || mkdir /etc/containerd && cd /etc/containerd && touch config.toml
grep -q ` + restrict + ` config.toml || {
	grep -q '^version *= *3' config.toml && t="io.containerd.cri.v1.runtime" || t="io.containerd.grpc.v1.cri"
	printf '[plugins."%s"]\n` + restrict + ` = true\n' "$t" >more
	sed -i "/plugins\.[\"']$t[\"']\]/d" config.toml
	sed -i '/^version/r more' config.toml
}`)
	h.start("containerd", "containerd")
	h.eventually("containerd", h.listens("/run/containerd/containerd.sock"))
	c, err := dialCRI(fmt.Sprintf("/proc/%d/root/run/containerd/containerd.sock", h.pid))
	if err != nil {
		h.t.Fatal(err)
	}
	if h.criClient != nil {
		h.conn.Close()
	} else {
		h.t.Cleanup(func() { h.conn.Close() })
	}
	h.criClient = c
	h.eventually("containerd", func() error { return h.ready() })
}

// ready returns nil if containerd says that its network is ready, or why not.
func (h *criHost) ready() error {
	s, err := h.Status(h.t.Context(), &cri.StatusRequest{})
	if err != nil {
		return err
	}
	for _, c := range s.Status.Conditions {
		if c.Type == cri.NetworkReady && !c.Status {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
	}
	return nil
}

// loadImages gives containerd the pause image that its configuration names, and
// a busybox.
func (h *criHost) loadImages() {
	h.t.Helper()
	pause := h.sh(`containerd config dump 2>/dev/null | sed -n "s/^ *\(sandbox_image\|sandbox\) = [\"']\(.*\)[\"']$/\2/p" | grep /`)
	h.sh("ctr -n k8s.io images import " + h.archive(pause, "docker.io/library/busybox:1"))
}

// A pod is a pod sandbox, which is all of a pod that networks see.
type pod struct {
	h      *criHost
	config *cri.PodSandboxConfig
	id     string
	addrs  []string // as containerd tells the kubelet
	netns  string   // path on the machine
	pid    int      // of its first process, on the machine
}

// podConfig returns the configuration of a pod with these published ports,
// host's to container's.
func podConfig(name string, ports ...[2]int32) *cri.PodSandboxConfig {
	c := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		Hostname: name,
		Linux:    &cri.LinuxPodSandboxConfig{},
	}
	for _, p := range ports {
		c.PortMappings = append(c.PortMappings, &cri.PortMapping{HostPort: p[0], ContainerPort: p[1]})
	}
	return c
}

// tryPod runs a pod sandbox.
func (h *criHost) tryPod(config *cri.PodSandboxConfig) (*pod, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	r, err := h.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return nil, err
	}
	p := &pod{h: h, config: config, id: r.PodSandboxId}
	return p, p.learn()
}

func (h *criHost) pod(config *cri.PodSandboxConfig) *pod {
	h.t.Helper()
	p, err := h.tryPod(config)
	if err != nil {
		h.t.Fatalf("run pod %s: %v", config.Metadata.Name, err)
	}
	return p
}

// learn asks containerd for the pod's addresses and namespace.
func (p *pod) learn() error {
	s, err := p.h.PodSandboxStatus(p.h.t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true})
	if err != nil {
		return err
	}
	if s.Status.State != cri.PodSandboxState_SANDBOX_READY {
		return fmt.Errorf("pod %s is %s", p.config.Metadata.Name, s.Status.State)
	}
	p.addrs = nil
	if n := s.Status.Network; n.GetIp() != "" {
		p.addrs = append(p.addrs, n.Ip)
		for _, ip := range n.AdditionalIps {
			p.addrs = append(p.addrs, ip.Ip)
		}
	}
	var info struct {
		PID         int
		RuntimeSpec struct {
			Linux struct {
				Namespaces []struct{ Type, Path string }
			}
		}
	}
	if err := json.Unmarshal([]byte(s.Info["info"]), &info); err != nil {
		return err
	}
	p.pid = info.PID
	for _, ns := range info.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			p.netns = strings.Replace(ns.Path, "/var/run/", "/run/", 1)
		}
	}
	if p.netns == "" {
		return fmt.Errorf("pod %s: no network namespace in %s", p.config.Metadata.Name, s.Info["info"])
	}
	return nil
}

// as returns the pod's namespace as a sandbox, for what those can do.
func (p *pod) as() *sandbox {
	p.h.t.Helper()
	return p.h.machine.as(p.config.Metadata.Name, filepath.Join(fmt.Sprintf("/proc/%d/root", p.h.pid), p.netns))
}

func (p *pod) stop() {
	p.h.t.Helper()
	if _, err := p.h.StopPodSandbox(p.h.t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.h.t.Fatalf("stop pod %s: %v", p.config.Metadata.Name, err)
	}
}

func (p *pod) remove() {
	p.h.t.Helper()
	if _, err := p.h.RemovePodSandbox(p.h.t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.h.t.Fatalf("remove pod %s: %v", p.config.Metadata.Name, err)
	}
}

// removeAll removes all pods that containerd knows.
func (h *criHost) removeAll() {
	h.t.Helper()
	list, err := h.ListPodSandbox(h.t.Context(), &cri.ListPodSandboxRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range list.Items {
		p := &pod{h: h, id: s.Id, config: &cri.PodSandboxConfig{Metadata: s.Metadata}}
		p.stop()
		p.remove()
	}
}

// mustReach fails the test unless pings from the pod to all of these are answered.
func (p *pod) mustReach(addrs ...string) {
	p.h.t.Helper()
	s := p.as()
	for _, a := range addrs {
		if !s.reaches(a) {
			p.h.t.Errorf("pod %s, at %v, does not reach %s:\n%s", p.config.Metadata.Name, p.addrs, a, s.run("ip", "addr"))
		}
	}
}
