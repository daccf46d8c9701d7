package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
)

// flows lists what the kernel tracks of UDP, as "to port".
func (h *host) flows() (all []string) {
	h.t.Helper()
	for line := range strings.Lines(h.run("conntrack", "-L", "-p", "udp")) {
		var to, port string
		for _, w := range strings.Fields(line) {
			if v, ok := strings.CutPrefix(w, "dst="); ok && to == "" {
				to = v
			}
			if v, ok := strings.CutPrefix(w, "dport="); ok && port == "" {
				port = v
			}
		}
		all = append(all, to+" "+port)
	}
	return all
}

func count(list []string, s string) (n int) {
	for _, l := range list {
		if l == s {
			n++
		}
	}
	return n
}

// TestUDPFlows: a client whose flow began before the port was published, or that
// talked to the container before, reaches the container there is now at its
// next datagram, though it never stops sending from one port. Flows of others
// are left alone.
func TestUDPFlows(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	c := network("web", web4)
	h.sandbox("keeper").add(c)
	client, other := out.dialUDP("192.0.2.1:5300"), out.dialUDP("192.0.2.1:5400")
	query(client, 1) // nobody there: the kernel tracks a flow to the host itself
	query(other, 1)
	// What passes through the host to the same port elsewhere.
	far := h.sandbox("far")
	rf := far.add(network("db", db4).with("gatewayMode4", "nat-unprotected"))
	far.answerDatagrams(rf.addr("4") + ":5300")
	out.run("ip", "route", "add", db4, "via", "192.0.2.1")
	passing := out.dialUDP(rf.addr("4") + ":5300")
	if _, err := query(passing, 3); err != nil {
		t.Fatalf("to the other network: %v", err)
	}
	before := h.flows()
	if count(before, "192.0.2.1 5300") != 1 || count(before, "192.0.2.1 5400") != 1 || count(before, rf.addr("4")+" 5300") != 1 {
		t.Fatalf("the kernel tracks %q: this test is of nothing", before)
	}

	withPort := c.ports(hostPort(5300, 53, "udp", ""))
	for _, id := range []string{"a", "b"} { // b in place of a, at the same port
		s := h.sandbox(id)
		r := s.add(withPort)
		if got := count(h.flows(), "192.0.2.1 5300"); got != 0 {
			t.Errorf("after ADD of %s %d flows to the port are tracked still", id, got)
		}
		s.answerDatagrams(r.addr("4") + ":53")
		if seen, err := query(client, 5); err != nil || seen != "192.0.2.2" {
			t.Errorf("%s answers an old flow with %q, %v", id, seen, err)
		}
		s.del(withPort.withoutRuntimeConfig(), r)
		if got := count(h.flows(), "192.0.2.1 5300"); got != 0 {
			t.Errorf("after DEL of %s %d flows to it are tracked still", id, got)
		}
	}
	after := h.flows()
	if count(after, "192.0.2.1 5400") != 1 || count(after, rf.addr("4")+" 5300") != 1 {
		t.Errorf("flows of others went too: tracked are %q, were %q", after, before)
	}
}

// TestSCTP: an association begins with a chunk that says so; what leads there is
// seen by a socket that gets all of SCTP, for few kernels speak it.
func TestSCTP(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	s := h.sandbox("a")
	r := s.add(network("web", web4).ports(hostPort(3868, 38, "sctp", "")))
	raw := func(ns *netns.Handle) (fd int) {
		t.Helper()
		if err := netns.Do(ns, func() (err error) {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	to, from := raw(s.ns), raw(out.ns)
	if err := unix.SetsockoptTimeval(to, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(from, sctpInit(40000, 3868), 0, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 256)
	n, sender, err := unix.Recvfrom(to, b, 0)
	if err != nil {
		t.Fatalf("%s got no SCTP: %v", r.addr("4"), err)
	}
	if got := sender.(*unix.SockaddrInet4).Addr; got != [4]byte{192, 0, 2, 2} || n < 24 || b[22] != 0 || b[23] != 38 {
		t.Errorf("from %v came %x, want port 38 behind the IP header", got, b[:n])
	}
}
