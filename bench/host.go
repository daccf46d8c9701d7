package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// A host is a machine of one side's own: a namespace and a directory.
type host struct {
	ns   *netns.Handle
	dir  string
	side side
}

// newHost makes the host of a side, with its loopback up and an uplink with a
// default route, so that plugins which look for one find it.
func newHost(o options, s side) (*host, error) {
	ns, err := netns.New()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.dir, s.short)
	if err != nil {
		return nil, err
	}
	h := &host{ns, dir, s}
	return h, h.plug()
}

// plug brings its loopback and an uplink up.
func (h *host) plug() error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "up0", "type", "veth", "peer", "name", "out0"},
		{"addr", "add", "192.0.2.1/24", "dev", "up0"},
		{"link", "set", "up0", "up"},
		{"link", "set", "out0", "up"},
		{"route", "add", "default", "via", "192.0.2.2"},
	} {
		if err := h.run("ip", args...); err != nil {
			return err
		}
	}
	return nil
}

// close ends the host and all that is on it.
func (h *host) close() {
	h.ns.Close()
	os.RemoveAll(h.dir)
}

// run runs a command on the host.
func (h *host) run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := netns.Do(h.ns, cmd.Run); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out.String())
	}
	return nil
}

// An attachment is one container on one network, as its runtime sees it.
type attachment struct {
	id   string
	ns   *netns.Handle
	port int             // of the host, if one is published
	prev json.RawMessage // what ADD printed last
}

// ports numbers the ports that attachments publish: no two get the same.
var ports atomic.Int32

// attachments makes n sandboxes.
func attachments(prefix string, n int) ([]*attachment, error) {
	var as []*attachment
	for i := range n {
		ns, err := netns.New()
		if err != nil {
			return nil, err
		}
		as = append(as, &attachment{id: fmt.Sprintf("%s%d", prefix, i), ns: ns, port: 10000 + int(ports.Add(1))})
	}
	return as, nil
}

func closeAll(as []*attachment) {
	for _, a := range as {
		a.ns.Close()
	}
}

// path names the sandbox for another process: through our descriptor, so that
// nothing is mounted and everything ends with this process.
func (a *attachment) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), a.ns.Fd()) }

// do runs one CNI verb of the network's chain for the attachment, as a runtime
// does: ADD in order, DEL in reverse. It returns how long the processes took,
// from the start of the first to the end of the last.
func (h *host) do(ctx context.Context, verb string, n network, a *attachment) (time.Duration, error) {
	return h.doChain(ctx, verb, n.chainFor(h, a), a)
}

// doChain is do for the configurations of a chain.
func (h *host) doChain(ctx context.Context, verb string, chain []map[string]any, a *attachment) (time.Duration, error) {
	if verb == "DEL" {
		slices.Reverse(chain)
	}
	var took time.Duration
	prev := json.RawMessage(nil)
	if verb == "DEL" {
		prev = a.prev
	}
	err := netns.Do(h.ns, func() error {
		for _, conf := range chain {
			if prev != nil {
				conf["prevResult"] = prev
			}
			out, d, err := h.exec(ctx, verb, conf, a)
			took += d
			if err != nil {
				return err
			}
			if verb == "ADD" {
				prev, a.prev = out, out
			}
		}
		return nil
	})
	return took, err
}

// exec runs one plugin on the calling thread.
func (h *host) exec(ctx context.Context, verb string, conf map[string]any, a *attachment) ([]byte, time.Duration, error) {
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, 0, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(h.side.bin, fmt.Sprint(conf["type"])))
	cmd.Env = append(h.side.environ(h.dir),
		"CNI_COMMAND="+verb, "CNI_CONTAINERID="+a.id, "CNI_IFNAME=eth0", "CNI_NETNS="+a.path(), "CNI_PATH="+h.side.bin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	start := time.Now()
	err = cmd.Run()
	took := time.Since(start)
	if err != nil {
		err = fmt.Errorf("%s: %s of %s for %s: %w: %s%s", h.side.name, verb, conf["type"], a.id, err, stdout.String(), stderr.String())
	}
	return stdout.Bytes(), took, err
}

// settle waits until no plugin of the side runs any more: our DEL leaves the
// end of a link's deletion to a process of its own, which must neither slow
// what is measured next nor be left out of what many DELs take.
func (h *host) settle(ctx context.Context) {
	self := filepath.Join(h.side.bin, "bowline-")
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && running(self) {
		<-tick.C
	}
}

// running reports whether a process runs an executable whose path starts so.
func running(path string) bool {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, l := range links {
		if exe, err := os.Readlink(l); err == nil && strings.HasPrefix(exe, path) {
			return true
		}
	}
	return false
}
