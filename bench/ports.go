package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline/internal/netns"
)

// A publication is a container with ports of its host, and a client outside.
type publication struct {
	name      string
	side      side
	ports     int
	row       bool // all in a row, to the same numbers; else all to one port
	host      *host
	server    *attachment
	client    *attachment
	at        string    // what the client connects to: the last port
	listening string    // where it leads
	rates     []float64 // connections per second
}

const (
	firstPort = 20000
	hostAddr  = "198.51.100.1"
)

// published measures connections from outside to the last of many published
// ports of a host.
func published(ctx context.Context, o options) error {
	all, err := rivals(o)
	if err != nil {
		return err
	}
	ours := ourSide(o)
	ps := []*publication{
		{name: "bowline", side: ours, ports: 1}, {name: "bowline", side: ours, ports: 1000},
		{name: "bowline", side: ours, ports: 10000}, {name: "bowline, one row", side: ours, ports: 10000, row: true},
	}
	for _, s := range all {
		ps = append(ps, &publication{name: s.name, side: s, ports: 1})
		if !o.quick {
			ps = append(ps, &publication{name: s.name, side: s, ports: 1000})
		}
	}
	for _, p := range ps {
		if err := p.open(ctx, o); err != nil {
			return fmt.Errorf("%s, %d ports: %w", p.name, p.ports, err)
		}
		defer p.close()
	}
	if err := connectInTurns(ctx, o, ps); err != nil {
		return err
	}
	head("Published ports: TCP connections from outside to the last one, both ends on one core", "plugins", "ports published", "connections /s", "× its own with 1", "× bowline with 1", "target")
	var one float64
	for _, p := range ps {
		rate, target := middle(p.rates), ""
		if p.ports == 1 {
			one = rate
		}
		if p.side.ours && p.ports > 1 {
			target = "≥ 0.95× its own with 1"
		}
		row(p.name, p.ports, fmt.Sprintf("%.0f", rate), times(rate, one, 0.95), times(rate, middle(ps[0].rates), 0), target)
	}
	return nil
}

// connectInTurns makes connections to all of them, one after the other, again and again.
func connectInTurns(ctx context.Context, o options, ps []*publication) error {
	for range o.count(15, 3) {
		for _, p := range ps {
			rate, err := p.connect(ctx, o.count(2000, 500))
			if err != nil {
				return fmt.Errorf("%s, %d ports: %w", p.name, p.ports, err)
			}
			p.rates = append(p.rates, rate)
		}
	}
	return nil
}

// open attaches the container and puts a client outside of the host.
func (p *publication) open(ctx context.Context, o options) error {
	h, err := newHost(o, p.side)
	if err != nil {
		return err
	}
	p.host = h
	as, err := attachments("port", 1)
	if err != nil {
		return err
	}
	p.server = as[0]
	if p.client, err = h.outside(); err != nil {
		return err
	}
	n := network{name: "ports", subnet: "10.18.0.0/24", masq: true, port: true}
	chain := n.chain(h)
	for _, c := range chain {
		c["runtimeConfig"] = map[string]any{"portMappings": p.mappings()}
	}
	if _, err := h.doChain(ctx, "ADD", chain, p.server); err != nil {
		return err
	}
	addr, err := address(p.server)
	if err != nil {
		return err
	}
	last := firstPort + p.ports - 1
	listening := port
	if p.row {
		listening = last
	}
	p.at, p.listening = hostAddr+":"+strconv.Itoa(last), netip.MustParseAddr(addr).String()+":"+strconv.Itoa(listening)
	return nil
}

// outside puts a machine beyond the host, which it reaches at hostAddr.
func (h *host) outside() (*attachment, error) {
	as, err := attachments("outside", 1)
	if err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "add", "ext0", "type", "veth", "peer", "name", "eth0", "netns", as[0].path()},
		{"addr", "add", hostAddr + "/24", "dev", "ext0"},
		{"link", "set", "ext0", "up"},
	} {
		if err := h.run("ip", args...); err != nil {
			return nil, err
		}
	}
	out := &host{ns: as[0].ns}
	if err := out.run("ip", "addr", "add", "198.51.100.2/24", "dev", "eth0"); err != nil {
		return nil, err
	}
	return as[0], out.run("ip", "link", "set", "eth0", "up")
}

func (p *publication) mappings() []map[string]any {
	var ms []map[string]any
	for i := range p.ports {
		m := map[string]any{"hostPort": firstPort + i, "containerPort": port, "protocol": "tcp"}
		if p.row {
			maps.Copy(m, map[string]any{"containerPort": firstPort + i})
		}
		ms = append(ms, m)
	}
	return ms
}

func (p *publication) close() {
	closeAll([]*attachment{p.server, p.client})
	p.host.close()
}

// connect makes count connections and returns how many there were a second.
func (p *publication) connect(ctx context.Context, count int) (float64, error) {
	server, err := self(connectWord, "serve", p.listening)
	if err != nil {
		return 0, err
	}
	ready, err := server.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := netns.Do(p.server.ns, server.Start); err != nil {
		return 0, err
	}
	defer server.Wait()
	defer server.Process.Kill()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("server did not start: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	client, err := self(connectWord, "ask", p.at, strconv.Itoa(count))
	if err != nil {
		return 0, err
	}
	var out []byte
	err = netns.Do(p.client.ns, func() (err error) {
		out, err = client.Output()
		return err
	})
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}
