package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// A daemon is our Docker plugin on a host of its own, and its engine's side of
// the socket.
type daemon struct {
	cmd    *exec.Cmd
	client http.Client
}

// resting measures what the Docker plugin takes at rest, with no endpoint and
// with very many.
func resting(ctx context.Context, o options) error {
	h, err := newHost(o, ourSide(o))
	if err != nil {
		return err
	}
	defer h.close()
	d, err := startDaemon(ctx, h)
	if err != nil {
		return err
	}
	defer d.cmd.Wait()
	defer d.cmd.Process.Kill()
	const network = "0123456789abcdef"
	if err := d.call("CreateNetwork", map[string]any{"NetworkID": network, "Options": map[string]any{},
		"IPv4Data": []map[string]any{{"AddressSpace": "local", "Pool": "10.19.0.0/16", "Gateway": "10.19.0.1/16"}}}); err != nil {
		return err
	}
	head("bowline-bridge serve at rest", "endpoints", "resident MiB", "CPU ms per minute", "time to make one endpoint (ms, median)")
	made := 0
	for _, level := range []int{0, o.count(1000, 50)} {
		var each []time.Duration
		for ; made < level; made++ {
			start := time.Now()
			err := d.call("CreateEndpoint", map[string]any{"NetworkID": network, "EndpointID": fmt.Sprintf("%064d", made), "Options": map[string]any{},
				"Interface": map[string]any{"Address": fmt.Sprintf("10.19.%d.%d/16", 1+made/250, 1+made%250)}})
			if err != nil {
				return err
			}
			each = append(each, time.Since(start))
		}
		seconds := o.count(20, 2)
		before, err := d.cpu()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(seconds) * time.Second): // what is measured is that nothing happens
		}
		after, err := d.cpu()
		if err != nil {
			return err
		}
		resident, err := d.resident()
		if err != nil {
			return err
		}
		row(level, fmt.Sprintf("%.1f", resident), (after-before).Milliseconds()*60/int64(seconds), ms(median(each)))
	}
	return nil
}

// startDaemon starts it and waits until it answers.
func startDaemon(ctx context.Context, h *host) (*daemon, error) {
	socket := filepath.Join(h.dir, "plugins", "bowline-bridge.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	d := &daemon{cmd: exec.Command(filepath.Join(h.side.bin, "bowline-bridge"), "serve", "-socket", socket, "-log", "error")}
	d.cmd.Env = h.side.environ(h.dir)
	d.cmd.Stderr = os.Stderr
	d.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	if err := netns.Do(h.ns, d.cmd.Start); err != nil {
		return nil, err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; <-tick.C {
		if d.call("GetCapabilities", map[string]any{}) == nil {
			return d, nil
		}
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
	return nil, fmt.Errorf("bowline-bridge serve does not answer at %s", socket)
}

// call makes one call of the NetworkDriver protocol.
func (d *daemon) call(method string, request any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	resp, err := d.client.Post("http://plugin/NetworkDriver."+method, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var said struct{ Err string }
	if err := json.Unmarshal(answer, &said); err != nil || said.Err != "" || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", method, resp.Status, answer)
	}
	return nil
}

// cpu returns the processor time that its threads took so far.
func (d *daemon) cpu() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	if len(tasks) == 0 {
		return 0, fmt.Errorf("process %d has no threads", d.cmd.Process.Pid)
	}
	var sum time.Duration
	for _, t := range tasks {
		data, err := os.ReadFile(t)
		if err != nil {
			continue // ended meanwhile
		}
		ns, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// resident returns its memory in MiB.
func (d *daemon) resident() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	return kib / 1024, err
}
