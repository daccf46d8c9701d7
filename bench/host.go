package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "up0", "type", "veth", "peer", "name", "out0"},
		{"addr", "add", "192.0.2.1/24", "dev", "up0"},
		{"link", "set", "up0", "up"},
		{"link", "set", "out0", "up"},
		{"route", "add", "default", "via", "192.0.2.2"},
	} {
		if err := h.run("ip", args...); err != nil {
			return nil, err
		}
	}
	return h, nil
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
	prev json.RawMessage // what ADD printed last
}

// attachments makes n sandboxes.
func attachments(prefix string, n int) ([]*attachment, error) {
	var as []*attachment
	for i := range n {
		ns, err := netns.New()
		if err != nil {
			return nil, err
		}
		as = append(as, &attachment{id: fmt.Sprintf("%s%d", prefix, i), ns: ns})
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

// do runs one CNI verb for the attachment and returns how long it took, from
// the start of the process to its end.
func (h *host) do(ctx context.Context, verb string, n network, a *attachment) (time.Duration, error) {
	conf := n.conf(h)
	if verb == "DEL" {
		conf["prevResult"] = a.prev
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return 0, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(h.side.bin, fmt.Sprint(conf["type"])))
	cmd.Env = append(h.side.environ(h.dir),
		"CNI_COMMAND="+verb, "CNI_CONTAINERID="+a.id, "CNI_IFNAME=eth0", "CNI_NETNS="+a.path(), "CNI_PATH="+h.side.bin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	var took time.Duration
	err = netns.Do(h.ns, func() error {
		start := time.Now()
		err := cmd.Run()
		took = time.Since(start)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %s %s: %w: %s%s", h.side.name, verb, a.id, err, stdout.String(), stderr.String())
	}
	if verb == "ADD" {
		a.prev = bytes.Clone(stdout.Bytes())
	}
	return took, nil
}
