package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

// A Member is a sandbox of the demo.
type Member struct {
	Name    string         `json:"name"`
	Network string         `json:"network"`
	Addrs   []netip.Prefix `json:"addrs"`
}

// Reach says whether the server of one sandbox answered a client in another.
type Reach struct {
	From     string     `json:"from"`
	To       string     `json:"to"`
	Addr     netip.Addr `json:"addr"`
	Reached  bool       `json:"reached"`
	Expected bool       `json:"expected"`
}

// showReach asks every server from every sandbox, over IPv4 and IPv6, and shows
// who answered.
func (d *demo) showReach(ctx context.Context) error {
	members := d.report.Sandboxes
	askers := append(slices.Clip(members), Member{Name: hostName})
	var clients []*client
	for _, from := range askers {
		c, err := d.startClient(ctx, from)
		if err != nil {
			return err
		}
		defer c.stop()
		clients = append(clients, c)
	}
	for i, from := range askers {
		answers, err := clients[i].answers()
		if err != nil {
			return fmt.Errorf("client in %s: %w", from.Name, err)
		}
		for _, to := range members {
			for _, p := range to.Addrs {
				d.report.Reach = append(d.report.Reach, Reach{
					From: from.Name, To: to.Name, Addr: p.Addr(),
					Reached: answers[p.Addr()] == to.Name,
					// The LAN is part of the world that containers get out to
					// through the host, and that does not get in.
					Expected: from.Network == to.Network || from.Name == hostName || to.Network == lanName,
				})
			}
		}
	}
	d.sayReach()
	return nil
}

func (d *demo) sayReach() {
	d.say("\nWho reaches whose web server (4: over IPv4, 6: over IPv6, -: no answer within %v):\n", probeTimeout)
	askers := append(slices.Clip(d.report.Sandboxes), Member{Name: hostName})
	fmt.Fprint(d.out, table(askers, d.report.Sandboxes, d.report.Reach))
	for _, x := range d.report.Reach {
		if x.Reached != x.Expected {
			d.say("WRONG: %s reaches %s at %s: %v, want %v", x.From, x.To, x.Addr, x.Reached, x.Expected)
		}
	}
}

// table draws the matrix, a row for each client and a column for each server.
func table(askers, members []Member, reach []Reach) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "  from \\ to")
	for _, to := range members {
		fmt.Fprintf(w, "\t%s", to.Name)
	}
	for _, from := range askers {
		fmt.Fprintf(w, "\n  %s", from.Name)
		for _, to := range members {
			fmt.Fprintf(w, "\t%s", cell(from.Name, to.Name, reach))
		}
	}
	fmt.Fprintln(w)
	w.Flush()
	return b.String()
}

func cell(from, to string, reach []Reach) string {
	var marks []string
	for _, x := range reach {
		if x.From != from || x.To != to {
			continue
		}
		mark := "-"
		if x.Reached {
			mark = "6"
			if x.Addr.Is4() {
				mark = "4"
			}
		}
		marks = append(marks, mark)
	}
	return strings.Join(marks, " ")
}

// A client is a process that runs [Probe] inside a sandbox.
type client struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	done     bool
}

// startClient starts a client that asks all servers at once.
func (d *demo) startClient(ctx context.Context, from Member) (*client, error) {
	var addrs []netip.Addr
	for _, m := range d.report.Sandboxes {
		for _, p := range m.Addrs {
			addrs = append(addrs, p.Addr())
		}
	}
	question, err := json.Marshal(addrs)
	if err != nil {
		return nil, err
	}
	c := &client{cmd: exec.CommandContext(ctx, d.self, "sandbox", "exec", prefix+from.Name, d.self, "demo", "probe")}
	if from.Name == hostName {
		c.cmd = exec.CommandContext(ctx, d.self, "demo", "probe")
	}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = bytes.NewReader(question), &c.out, &c.err
	return c, c.cmd.Start()
}

// answers waits for the client and returns what the servers said, by address.
func (c *client) answers() (said map[netip.Addr]string, err error) {
	c.done = true
	if err := c.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, c.err.String())
	}
	return said, json.Unmarshal(c.out.Bytes(), &said)
}

// stop ends a client whose answers nobody waited for.
func (c *client) stop() {
	if !c.done {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

// url returns where the server at addr is.
func url(addr netip.Addr) string {
	return "http://" + net.JoinHostPort(addr.String(), port) + "/"
}
