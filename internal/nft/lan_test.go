package nft_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A lan is a host whose link up0 leads to another machine, outside, and macvlan
// containers on that link.
type lan struct {
	host, outside *netns.Handle
	at            map[string]*netns.Handle     // by name
	addrs         map[string]map[string]string // by name and family
}

func newLAN(t *testing.T, containers ...string) *lan {
	t.Helper()
	l := &lan{host: netnstest.New(t), outside: netnstest.New(t), at: map[string]*netns.Handle{}, addrs: map[string]map[string]string{}}
	netnstest.Command(t, l.host, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", nsPath(l.outside))
	netnstest.Command(t, l.host, "ip", "link", "set", "up0", "up")
	l.join(t, "outside", l.outside, "eth0")
	for _, name := range containers {
		ns := netnstest.New(t)
		l.macvlan(t, ns, "eth0")
		l.join(t, name, ns, "eth0")
	}
	return l
}

func nsPath(ns *netns.Handle) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

// macvlan makes a link on up0 in the namespace, down.
func (l *lan) macvlan(t *testing.T, ns *netns.Handle, name string) {
	t.Helper()
	netnstest.Command(t, l.host, "ip", "link", "add", "link", "up0", "name", name, "netns", nsPath(ns), "type", "macvlan", "mode", "bridge")
}

// join gives the link the next addresses of the LAN, and has it serve there.
func (l *lan) join(t *testing.T, name string, ns *netns.Handle, link string) {
	t.Helper()
	n := len(l.at) + 1
	l.at[name] = ns
	l.addrs[name] = map[string]string{"4": fmt.Sprint("10.9.0.", n), "6": fmt.Sprint("fd00:9::", n)}
	l.dress(t, name, link)
	serveAll(t, ns)
}

// dress brings the link up, with the addresses of that name.
func (l *lan) dress(t *testing.T, name, link string) {
	t.Helper()
	netnstest.Command(t, l.at[name], "ip", "link", "set", link, "up")
	netnstest.Command(t, l.at[name], "ip", "addr", "add", l.addrs[name]["4"]+"/24", "dev", link)
	netnstest.Command(t, l.at[name], "ip", "addr", "add", l.addrs[name]["6"]+"/64", "dev", link, "nodad")
}

// A probe is one try to talk, by both families.
type probe struct {
	from, to string
	proto    string // tcp, udp, large (UDP in fragments) or icmp
	port     int
	want     bool
}

func everything(from, to string, want bool) []probe {
	return []probe{{from, to, "tcp", 80, want}, {from, to, "udp", 53, want}, {from, to, "large", 53, want}, {from, to, "icmp", 0, want}}
}

// try makes the probes, all at once.
func (l *lan) try(t *testing.T, probes []probe) {
	t.Helper()
	var all sync.WaitGroup
	for _, p := range probes {
		for family, addr := range l.addrs[p.to] {
			all.Go(func() {
				if err := talk(l.at[p.from], p, addr); (err == nil) != p.want {
					t.Errorf("%s to %s, %s %d, IPv%s: %v; want it to pass: %v", p.from, p.to, p.proto, p.port, family, err, p.want)
				}
			})
		}
	}
	all.Wait()
}

func talk(ns *netns.Handle, p probe, addr string) error {
	patience := 800 * time.Millisecond
	if p.want {
		patience = 10 * time.Second
	}
	switch p.proto {
	case "icmp":
		args := []string{"-n", "-c", "2", "-i", "0.2", "-w", "1", "-s", "4000", addr}
		if p.want { // until one is answered
			args = []string{"-n", "-c", "1", "-w", "10", "-s", "4000", addr}
		}
		return netns.Do(ns, exec.Command("ping", args...).Run)
	case "large":
		return exchange(patience, ns, "udp", net.JoinHostPort(addr, fmt.Sprint(p.port)), strings.Repeat("x", 4000))
	}
	return exchange(patience, ns, p.proto, net.JoinHostPort(addr, fmt.Sprint(p.port)), "hello")
}

// exchange sends text and waits for it to come back.
func exchange(patience time.Duration, ns *netns.Handle, network, addr, text string) error {
	end := time.Now().Add(patience)
	var c net.Conn
	if err := netns.Do(ns, func() (err error) { c, err = net.DialTimeout(network, addr, patience); return err }); err != nil {
		return err
	}
	defer c.Close()
	for { // a datagram may be lost while a neighbour is being found
		err := again(c, network, end, text)
		if err == nil || network == "tcp" || time.Now().After(end) {
			return err
		}
	}
}

// again sends text on the connection and waits for it to come back.
func again(c net.Conn, network string, end time.Time, text string) error {
	if soon := time.Now().Add(300 * time.Millisecond); network == "udp" && soon.Before(end) {
		end = soon
	}
	_ = c.SetDeadline(end)
	var got [8192]byte
	_, err := c.Write([]byte(text))
	if err != nil {
		return err
	}
	n, err := c.Read(got[:])
	if err == nil && string(got[:n]) != text {
		err = fmt.Errorf("got %d bytes, want %d", n, len(text))
	}
	return err
}

// serveAll echoes what comes to some ports, until the test ends.
func serveAll(t testing.TB, ns *netns.Handle) {
	t.Helper()
	for _, network := range []string{"tcp4", "tcp6"} {
		for _, port := range []string{":80", ":443"} {
			var l net.Listener
			if err := netns.Do(ns, func() (err error) { l, err = net.Listen(network, port); return err }); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go echo(c)
				}
			}()
		}
	}
	// A socket for each family answers from the address that was asked.
	for _, network := range []string{"udp4", "udp6"} {
		for _, port := range []string{":53", ":80"} {
			var c net.PacketConn
			if err := netns.Do(ns, func() (err error) { c, err = net.ListenPacket(network, port); return err }); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				var b [8192]byte
				for {
					n, from, err := c.ReadFrom(b[:])
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						_, _ = c.WriteTo(b[:n], from)
					}
				}
			}()
		}
	}
}

func echo(c net.Conn) {
	defer c.Close()
	var b [8192]byte
	for {
		n, err := c.Read(b[:])
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}
