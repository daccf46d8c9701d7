package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline/internal/netns"
)

// A shaper is a side that limits rates, with the burst that it is asked for.
type shaper struct {
	side
	burst func(rate uint64) uint64 // bits; 0: the plugin chooses
	once  bool                     // one round shows it
}

// shapers returns ours, the reference with the burst that ours chooses, and the
// reference as containerd asks it, which gives each container all that 32 bits
// can say.
func shapers(o options) []shaper {
	reference := func(name string) side {
		return side{name: name, short: "bandwidth", bin: o.reference, backend: "iptables"}
	}
	return []shaper{
		{side: ourSide(o), burst: func(uint64) uint64 { return 0 }},
		{side: reference("reference, burst as ours"), burst: func(rate uint64) uint64 { return rate / 40 }},
		{side: reference("reference, burst of containerd"), burst: func(uint64) uint64 { return 1<<32 - 1 }, once: true},
	}
}

// shaped is the network with limits.
type shaped struct {
	network
	rate, burst uint64
	out         bool // limits what the container sends, else what it receives
}

// chain is the network's, with the capability given to our plugin, or to the
// reference's that has it.
func (n shaped) chain(h *host) []map[string]any {
	chain := n.network.chain(h)
	limits := map[string]any{"ingressRate": n.rate, "ingressBurst": n.burst}
	if n.out {
		limits = map[string]any{"egressRate": n.rate, "egressBurst": n.burst}
	}
	if !h.side.ours {
		chain = append(chain, map[string]any{"cniVersion": "1.0.0", "name": n.name, "type": "bandwidth"})
	}
	chain[len(chain)-1]["runtimeConfig"] = map[string]any{"bandwidth": limits}
	return chain
}

// shaping measures what a container receives, or sends, over five seconds of
// one TCP stream, against the limit that was asked for.
func shaping(ctx context.Context, o options) error {
	seconds, rounds := o.count(5, 2), o.count(3, 1)
	head(fmt.Sprintf("Limits: TCP payload, and frames that the limit counts, of one stream over %d s, against what was asked for", seconds),
		"rate", "direction", "plugin", "payload", "frames", "target")
	for _, rate := range []uint64{10e6, 100e6, 1e9, 5e9} {
		for _, out := range []bool{false, true} {
			all := shapers(o)
			payload, frames := make([][]float64, len(all)), make([][]float64, len(all))
			for round := range rounds {
				for i, s := range all {
					if s.once && round > 0 {
						continue
					}
					p, f, err := stream(ctx, o, s, rate, out, seconds)
					if err != nil {
						return fmt.Errorf("%s, %d bit/s: %w", s.name, rate, err)
					}
					payload[i], frames[i] = append(payload[i], p), append(frames[i], f)
				}
			}
			for i, s := range all {
				printShaped(s, rate, out, middle(payload[i]), middle(frames[i]))
			}
		}
	}
	return nil
}

func printShaped(s shaper, rate uint64, out bool, payload, frames float64) {
	direction, target, within := "to the container", "", fmt.Sprintf("%.1f %%", payload*100)
	if out {
		direction = "from the container"
	}
	if s.ours {
		target = "± 5 %"
		if payload >= 0.95 && payload <= 1.05 {
			within = "**" + within + "**"
		}
	}
	row(fmt.Sprintf("%d Mbit/s", rate/1e6), direction, s.name, within, fmt.Sprintf("%.1f %%", frames*100), target)
}

// stream attaches a container with the limit and one without to a host of the
// side, and has one send to the other. It returns the rates of payload and of
// frames as shares of the limit.
func stream(ctx context.Context, o options, s shaper, rate uint64, out bool, seconds int) (payload, frames float64, err error) {
	h, err := newHost(o, s.side)
	if err != nil {
		return 0, 0, err
	}
	defer h.close()
	as, err := attachments("s", 2)
	if err != nil {
		return 0, 0, err
	}
	defer closeAll(as)
	plain := network{name: "shape", subnet: "10.14.0.0/24", masq: true}
	if _, err := h.doChain(ctx, "ADD", plain.chain(h), as[0]); err != nil {
		return 0, 0, err
	}
	limited := shaped{network: plain, rate: rate, burst: s.burst(rate), out: out}
	if _, err := h.doChain(ctx, "ADD", limited.chain(h), as[1]); err != nil {
		return 0, 0, err
	}
	from, to := as[0], as[1]
	if out {
		from, to = as[1], as[0]
	}
	before, err := h.tbfBytes()
	if err != nil {
		return 0, 0, err
	}
	addr, err := address(to)
	if err != nil {
		return 0, 0, err
	}
	bytes, err := floodBetween(ctx, from, to, addr, port, seconds)
	if err != nil {
		return 0, 0, err
	}
	after, err := h.tbfBytes()
	asked := float64(rate) / 8
	return bytes / asked, float64(after-before) / float64(seconds) / asked, err
}

// floodBetween returns how many bytes a second of one stream came, to that
// address and port of the receiver.
func floodBetween(ctx context.Context, from, to *attachment, addr string, port, seconds int) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	at := net.JoinHostPort(addr, strconv.Itoa(port))
	server := exec.CommandContext(ctx, self, floodWord, "serve", at, strconv.Itoa(seconds))
	said, err := server.StdoutPipe()
	if err != nil {
		return 0, err
	}
	server.Stderr = os.Stderr
	if err := netns.Do(to.ns, server.Start); err != nil {
		return 0, err
	}
	defer server.Wait()
	defer server.Process.Kill()
	if _, err := said.Read(make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("server did not start: %w", err)
	}
	client := exec.CommandContext(ctx, self, floodWord, "send", at, strconv.Itoa(seconds))
	client.Stderr = os.Stderr
	if err := netns.Do(from.ns, client.Start); err != nil {
		return 0, err
	}
	defer client.Wait()
	defer client.Process.Kill()
	var line [64]byte
	n, err := said.Read(line[:])
	if err != nil {
		return 0, fmt.Errorf("server said nothing: %w", err)
	}
	return strconv.ParseFloat(strings.TrimSpace(string(line[:n])), 64)
}

// tbfBytes returns what has passed the limits of the host, in bytes of frames.
func (h *host) tbfBytes() (uint64, error) {
	var out []byte
	err := netns.Do(h.ns, func() (err error) {
		out, err = exec.Command("tc", "-s", "-j", "qdisc").Output()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("tc qdisc: %w", err)
	}
	var all []struct {
		Kind  string
		Bytes uint64
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return 0, err
	}
	var sum uint64
	for _, q := range all {
		if q.Kind == "tbf" {
			sum += q.Bytes
		}
	}
	return sum, nil
}
