package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline/internal/netns"
)

// A lane is a way between two sandboxes.
type lane struct {
	name   string
	a, b   *attachment
	addr   string // of b
	target float64
	rate   map[string][]float64 // by kind of endpoint
}

// packetPath measures transactions: one byte there and one back over TCP,
// both ends on one core, between two sandboxes. Ends that use bare system
// calls show the kernel's path, ends that use Go's net package what a program
// sees of it.
func packetPath(ctx context.Context, o options) error {
	raw, err := rawLane()
	if err != nil {
		return err
	}
	defer raw.close()
	lanes := []*lane{raw}
	reference := side{name: "reference bridge", short: "bridge", bin: o.reference, backend: "iptables"}
	for _, s := range []side{ourSide(o), reference} {
		for _, filtered := range []bool{false, true} {
			h, err := newHost(o, s)
			if err != nil {
				return err
			}
			defer h.close()
			if found, err := h.bridgeNetfilter(filtered); err != nil {
				return err
			} else if filtered && !found {
				continue
			}
			l, err := bridged(ctx, h)
			if err != nil {
				return err
			}
			defer l.close()
			if filtered {
				l.name += ", bridge netfilter on"
			} else if s.ours {
				l.target = 0.88
			}
			lanes = append(lanes, l)
		}
	}
	for range o.count(9, 2) {
		for _, kind := range []string{bare, golang} {
			for _, l := range lanes {
				rate, err := transactions(ctx, kind, l)
				if err != nil {
					return fmt.Errorf("%s: %w", l.name, err)
				}
				l.rate[kind] = append(l.rate[kind], rate)
			}
		}
	}
	head("Packet path: TCP transactions between two containers of one host, both ends on one core", "path", "bare system calls /s", "× raw veth", "Go net /s", "× raw veth", "target")
	for _, l := range lanes {
		target := ""
		if l.target > 0 {
			target = fmt.Sprintf("≥ %.2f×", l.target)
		}
		row(l.name, fmt.Sprintf("%.0f", middle(l.rate[bare])), times(middle(l.rate[bare]), middle(lanes[0].rate[bare]), l.target),
			fmt.Sprintf("%.0f", middle(l.rate[golang])), times(middle(l.rate[golang]), middle(lanes[0].rate[golang]), l.target), target)
	}
	return nil
}

// bridgeNetfilter says whether bridged packets go through iptables on the host,
// as they do where Docker or Kubernetes ran. It reports whether the kernel has
// that at all.
func (h *host) bridgeNetfilter(on bool) (found bool, err error) {
	value := []byte("0")
	if on {
		value = []byte("1")
	}
	err = netns.Do(h.ns, func() error {
		for _, table := range []string{"iptables", "ip6tables", "arptables"} {
			if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+table, value, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// bridged attaches two sandboxes to one bridge network of h's side.
func bridged(ctx context.Context, h *host) (*lane, error) {
	return between(ctx, h, network{name: "path", subnet: "10.12.0.0/24", masq: true})
}

// between attaches two sandboxes to one network of h's side.
func between(ctx context.Context, h *host, n network) (*lane, error) {
	as, err := attachments("e", 2)
	if err != nil {
		return nil, err
	}
	for _, a := range as {
		if _, err := h.do(ctx, "ADD", n, a); err != nil {
			return nil, err
		}
	}
	addr, err := address(as[1])
	return &lane{name: h.side.name, a: as[0], b: as[1], addr: addr, rate: map[string][]float64{}}, err
}

func (l *lane) close() { closeAll([]*attachment{l.a, l.b}) }

// rawLane is the least that there can be between two sandboxes.
func rawLane() (*lane, error) {
	raw, err := attachments("raw", 2)
	if err != nil {
		return nil, err
	}
	l := &lane{name: "raw veth", a: raw[0], b: raw[1], addr: "10.11.0.2", rate: map[string][]float64{}}
	if err := wireRaw(l.a, l.b); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// wireRaw joins two sandboxes by a veth pair, the least there can be.
func wireRaw(a, b *attachment) error {
	for _, args := range [][]string{
		{"link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.path()},
		{"addr", "add", "10.11.0.1/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		if err := (&host{ns: a.ns}).run("ip", args...); err != nil {
			return err
		}
	}
	h := &host{ns: b.ns}
	if err := h.run("ip", "addr", "add", "10.11.0.2/24", "dev", "eth0"); err != nil {
		return err
	}
	return h.run("ip", "link", "set", "eth0", "up")
}

// transactions serves in b, asks from a for half a second, and returns the rate.
func transactions(ctx context.Context, kind string, l *lane) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	server := exec.CommandContext(ctx, self, endpointWord, kind, "serve", l.addr)
	ready, err := server.StdoutPipe()
	if err != nil {
		return 0, err
	}
	server.Stderr = os.Stderr
	if err := netns.Do(l.b.ns, server.Start); err != nil {
		return 0, err
	}
	defer server.Wait()
	defer server.Process.Kill()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("server did not start: %w", err)
	}
	client := exec.CommandContext(ctx, self, endpointWord, kind, "ask", l.addr)
	client.Stderr = os.Stderr
	var out []byte
	err = netns.Do(l.a.ns, func() (err error) {
		out, err = client.Output()
		return err
	})
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// address returns the IPv4 address that ADD gave.
func address(a *attachment) (string, error) {
	var r struct {
		IPs []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(a.prev, &r); err != nil {
		return "", err
	}
	if len(r.IPs) == 0 {
		return "", fmt.Errorf("no address in %s", a.prev)
	}
	return r.IPs[0].Address.Addr().String(), nil
}

func middle(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(xs))[len(xs)/2]
}
