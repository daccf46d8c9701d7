package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// An engine is a process with a mount namespace of its own, in which it has its
// sandboxes, and runs plugins. It ends with the test.
type engine struct {
	h   *host
	in  io.WriteCloser
	out *bufio.Reader
	end func()
}

func (h *host) engine() *engine {
	h.t.Helper()
	cmd := h.command("unshare", "-m", "--propagation", "private", "sh", "-c", `while read -r line; do eval "$line" 2>&1; s=$?; echo; echo "done $s"; done`)
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.do(cmd.Start); err != nil {
		h.t.Fatal(err)
	}
	e := &engine{h: h, in: in, out: bufio.NewReader(out)}
	e.end = func() { in.Close(); cmd.Wait() }
	h.t.Cleanup(e.end)
	return e
}

// run runs a shell line in the engine and returns what it prints.
func (e *engine) run(line string) (string, error) {
	fmt.Fprintln(e.in, line)
	var b strings.Builder
	for {
		l, err := e.out.ReadString('\n')
		if status, ok := strings.CutPrefix(l, "done "); ok {
			if status != "0\n" {
				err = fmt.Errorf("exit status %s", strings.TrimSpace(status))
			}
			return b.String(), err
		}
		if b.WriteString(l); err != nil {
			return b.String(), err
		}
	}
}

// must is run for what must succeed.
func (e *engine) must(line string) string {
	e.h.t.Helper()
	out, err := e.run(line)
	if err != nil {
		e.h.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// TestDeviceHidden: the engine's mounts are its own, so others find the NIC through
// its processes: they leave a container alone that lives, and bring the NIC back
// when it has ended, and when the engine has.
func TestDeviceHidden(t *testing.T) {
	if reference() {
		t.Skip("the reference plugin does not claim this")
	}
	t.Parallel()
	h := newHost(t)
	h.nic("nic0")
	before := h.apart()
	text, err := json.Marshal(deviceNetwork("lan", "nic0"))
	if err != nil {
		t.Fatal(err)
	}
	box := h.dir + "/box"
	cni := func(verb string) string {
		return fmt.Sprintf("echo '%s' | CNI_COMMAND=%s CNI_CONTAINERID=one CNI_IFNAME=eth0 CNI_NETNS=%s CNI_PATH=/ %s", text, verb, box, bin("bowline-host"))
	}
	same := func(when string) {
		t.Helper()
		eventually(t, func() error {
			if d := diff(before, h.apart().without("process", func(string) bool { return true })); d != "" {
				return fmt.Errorf("%s: the host is not as it was:\n%s", when, d)
			}
			return nil
		})
	}
	e := h.engine()
	for _, who := range []string{"repair", "engine"} {
		e.must("touch " + box + " && unshare --net=" + box + " true")
		e.must(cni("ADD"))
		if out := h.run(bin("bowline-host"), "repair"); strings.Contains(out, "nic0") {
			t.Errorf("repair takes a NIC from a container that lives: %s", out)
		}
		e.must("umount -l " + box + " && rm " + box)
		if who == "repair" {
			if out := h.run(bin("bowline-host"), "repair"); !strings.Contains(out, "want it back from one/eth0") {
				t.Errorf("repair: %s", out)
			}
		}
		e.must(cni("DEL"))
		same("brought back by " + who)
	}
	// The namespace ends with the engine, and the link, which is no NIC, with it.
	e.must("touch " + box + " && unshare --net=" + box + " true")
	e.must(cni("ADD"))
	e.end()
	eventually(t, func() error {
		if out, err := h.try("ip", "link", "show", "nic0"); err == nil {
			return fmt.Errorf("it is still there: %s", out)
		}
		return nil
	})
	next := h.engine()
	next.must(cni("DEL"))
	if left := h.records(); len(left) > 0 {
		t.Errorf("records left: %v", left)
	}
	h.run("rm", "-f", box)
}
