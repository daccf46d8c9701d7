package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestRunc follows the guide with runc, and with crun in its place.
func TestRunc(t *testing.T) {
	t.Parallel()
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			h := newMachine(t, runtime, "busybox")
			g := h.guide("runc.md")
			g.run["apt-get install runc crun busybox-static"] = func() { h.sh(runtime + " --version") }
			g.replace = strings.NewReplacer("runc ", runtime+" ")
			before := h.snapshot().withoutMarks()
			g.follow(t, "Install", "A bundle", "A container in a sandbox", "A sandbox of a container")
			oci := &ociHost{h, runtime}
			for _, addr := range []string{outside4, outside6} {
				if !oci.reaches("another", addr) || !oci.reaches("two", addr) {
					t.Errorf("a container does not reach %s", addr)
				}
			}
			g.follow(t, "The end")
			oci.gone()
			eventually(t, func() error {
				if d := diff(before, h.snapshot().withoutMarks()); d != "" {
					return fmt.Errorf("the host is not as it was before the test:\n%s", d)
				}
				return nil
			})
		})
	}
}

// An ociHost is a machine with an OCI runtime.
type ociHost struct {
	*machine
	runtime string
}

// reaches reports whether a ping from the container is answered.
func (h *ociHost) reaches(container, addr string) bool {
	pid := h.sh(h.runtime + " state " + container + ` | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'`)
	return h.inside("nsenter", "-t", pid, "-n", "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", addr).Run() == nil
}

// gone: a container that was killed is cleared by gc, in either kind of sandbox.
func (h *ociHost) gone() {
	h.t.Helper()
	h.sh("bowline network create web --subnet 10.1.0.0/24 && bowline sandbox create one && bowline connect one web")
	h.sh(fmt.Sprintf("cd %s/clone && %s run -d -b bundle two </dev/null >/dev/null 2>&1", h.dir, h.runtime))
	h.sh(fmt.Sprintf(`pid=$(%s state two | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p') && bowline sandbox create two --netns /proc/$pid/ns/net && bowline connect two web && kill -9 $pid`, h.runtime))
	h.sh("umount /run/bowline/netns/one")
	eventually(h.t, func() error {
		if out := h.sh("bowline gc --dry-run"); !strings.Contains(out, "one") || !strings.Contains(out, "two") {
			return fmt.Errorf("gc would clear %s", out)
		}
		return nil
	})
	h.sh("bowline gc")
	if out := h.sh("bowline ls"); strings.Contains(out, "web") {
		h.t.Errorf("after gc there is %s", out)
	}
	h.sh(h.runtime + " delete -f two; bowline network rm web")
}
