package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestPortTaken: a port that somebody has is refused with the name of who has
// it, and nothing half-made is left.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	web, db := network("web", web4, web6), network("db", db4, db6)
	a := h.sandbox("a")
	ra := a.add(web.ports(hostPort(8080, 80, "tcp", ""), hostPort(5300, 53, "udp", "127.0.0.1")))
	h.sandbox("d").add(db)
	var process int
	if err := h.do(func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err == nil {
			t.Cleanup(func() { l.Close() })
			process = l.Addr().(*net.TCPAddr).Port
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	before := h.snapshot()
	holder := `it leads to endpoint "a/eth0" of network "web"`
	for i, tt := range []struct {
		c    conf
		port map[string]any
		want string
	}{
		{web, hostPort(8080, 81, "tcp", ""), "port 8080/tcp is taken: " + holder},
		{db, hostPort(8080, 80, "tcp", ""), "port 8080/tcp is taken: " + holder},
		{db, hostPort(8080, 80, "tcp", "::1"), "port [::1]:8080/tcp is taken: " + holder},
		{db, hostPort(5300, 53, "udp", ""), "port 5300/udp is taken: " + holder},
		{web, hostPort(process, 80, "tcp", ""), fmt.Sprintf("port %d/tcp is taken: process %d, e2e.test, listens at 127.0.0.1 port %d", process, os.Getpid(), process)},
	} {
		s := h.sandbox(fmt.Sprintf("s%d", i))
		_, err := s.tryAdd(tt.c.ports(hostPort(7777, 77, "tcp", ""), tt.port))
		if code(err) != 100 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ADD with %v: %v, want code 100 and %s", tt.port, err, tt.want)
		}
		s.end()
		if d := diff(before, h.snapshot()); d != "" {
			t.Errorf("a refused ADD with %v left\n%s", tt.port, d)
		}
	}
	// What is free once more can be had at once.
	a.del(web, ra)
	h.sandbox("late").add(db.ports(hostPort(8080, 80, "tcp", "")))
}

// TestPortOfDead: what a container had that died without DEL can be had again at
// once, row and all; that it is GC'd late ends nothing of the new one's.
func TestPortOfDead(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	c := network("web", web4, web6)
	withPorts := c.ports(hostPort(8080, 80, "tcp", ""), hostPort(5300, 53, "udp", "127.0.0.1"), map[string]any{"hostPort": 20000, "containerPort": 20000, "count": 1000},
		map[string]any{"hostPort": 30000, "containerPort": 1000, "count": 100})
	dead := h.sandbox("dead")
	dead.add(withPorts)
	dead.end()
	eventually(t, func() error { // the kernel takes its time to end a namespace
		if links := h.run("ip", "-o", "link", "show", "master", "br-web"); links != "" {
			return fmt.Errorf("still there: %s", links)
		}
		return nil
	})
	b := h.sandbox("b")
	r := b.add(withPorts)
	b.serve(r.addr("4") + ":80")
	out.sees("192.0.2.1:8080", "192.0.2.2")
	if err := h.gc(c, []string{"b/eth0"}); err != nil {
		t.Fatal(err)
	}
	if err := b.check(withPorts, r); err != nil {
		t.Errorf("CHECK after GC of the dead: %v", err)
	}
	out.sees("192.0.2.1:8080", "192.0.2.2")
}

// TestPortChosen: for host port 0 one is chosen, the same for both families, out
// of the range that the kernel chooses from and not out of what is reserved; the
// record and bowline ls tell it.
func TestPortChosen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	h.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40003", "net.ipv4.ip_local_reserved_ports=40001")
	if err := h.do(func() error {
		l, err := net.Listen("tcp", ":40003")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c := network("web", web4, web6)
	seen := map[int]string{}
	for _, id := range []string{"a", "b"} {
		s := h.sandbox(id)
		r := s.add(c.ports(hostPort(0, 80, "tcp", "")))
		port := h.published(id)
		seen[port] = id
		for _, family := range []string{"4", "6"} {
			s.serve(net.JoinHostPort(r.addr(family), "80"))
		}
		out.sees(fmt.Sprintf("192.0.2.1:%d", port), "192.0.2.2")
		out.sees(fmt.Sprintf("[2001:db8::1]:%d", port), "2001:db8::2")
	}
	if len(seen) != 2 || seen[40000] == "" || seen[40002] == "" {
		t.Errorf("chosen were %v, want 40000 and 40002", seen)
	}
	if _, err := h.sandbox("c").tryAdd(c.ports(hostPort(0, 80, "tcp", ""))); code(err) != 11 || !strings.Contains(err.Error(), "40000 to 40003") {
		t.Errorf("ADD with no port free: %v, want code 11 and the range", err)
	}
}

// published returns the first host port of the container, as bowline ls tells.
func (h *host) published(container string) int {
	h.t.Helper()
	var all []struct {
		Container string
		Ports     []struct{ HostPort int }
	}
	h.parse(&all, bin("bowline"), "ls", "--json")
	for _, e := range all {
		if e.Container == container && len(e.Ports) > 0 {
			return e.Ports[0].HostPort
		}
	}
	h.t.Fatalf("bowline ls does not tell of ports of %s: %+v", container, all)
	return 0
}

// TestPortRow: ten thousand ports are one element, as fast as one, and each of
// them works; with other numbers inside as well.
func TestPortRow(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	c := network("web", web4, web6)
	row := func(host, container, n int) (list []map[string]any) {
		for i := range n {
			list = append(list, hostPort(host+i, container+i, "tcp", ""))
		}
		return list
	}
	a := h.sandbox("a")
	withPorts := c.ports(row(20000, 20000, 10000)...)
	r := a.add(withPorts)
	rules := h.run("nft", "list", "table", "ip", "bowline")
	if n := strings.Count(rules, "a/eth0 web"); n != 4 { // in port-row, port-owner, port-user and published
		t.Errorf("a row of 10,000 ports is %d elements, want 4", n)
	}
	for _, port := range []int{20000, 25000, 29999} {
		a.serve(net.JoinHostPort(r.addr("4"), strconv.Itoa(port)))
		a.serve(net.JoinHostPort(r.addr("6"), strconv.Itoa(port)))
		out.sees(fmt.Sprintf("192.0.2.1:%d", port), "192.0.2.2")
		out.sees(fmt.Sprintf("[2001:db8::1]:%d", port), "2001:db8::2")
	}
	out.refused("192.0.2.1:30000")
	if err := a.check(withPorts, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	a.del(withPorts, r)
	b := h.sandbox("b")
	withPorts = c.ports(row(20000, 1000, 500)...)
	r = b.add(withPorts)
	b.serve(r.addr("4") + ":1499")
	out.sees("192.0.2.1:20499", "192.0.2.2")
	b.del(withPorts, r)
	if rules := h.run("nft", "list", "table", "ip", "bowline"); strings.Contains(rules, "/eth0 web") {
		t.Errorf("after DEL:\n%s", rules)
	}
}
