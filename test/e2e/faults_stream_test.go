package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// streamRate is how many packets each stream sends in a second.
const streamRate = 500

// A stream is a sender of numbered packets, and somebody who sends each back.
type stream struct {
	name     string
	conn     *net.UDPConn
	stop     chan struct{}
	done     sync.WaitGroup
	sent     atomic.Int64
	received atomic.Int64
	again    atomic.Int64 // packets that came a second time
	dropped  int64        // by the machine, before the first one; see overflowed
}

// echo sends back each packet that comes to addr in the sandbox, until the
// test ends.
func (s *sandbox) echo(addr string) {
	s.h.t.Helper()
	var c net.PacketConn
	if err := netns.Do(s.ns, func() (err error) {
		c, err = net.ListenPacket("udp", addr)
		return err
	}); err != nil {
		s.h.t.Fatal(err)
	}
	s.h.t.Cleanup(func() { c.Close() })
	patient(s.h.t, c.(*net.UDPConn))
	go func() {
		var b [64]byte
		for {
			n, from, err := c.ReadFrom(b[:])
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from) // what is lost is counted by the sender
		}
	}()
}

// patient gives c room for what comes while this process does not run.
func patient(t testing.TB, c *net.UDPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = forceBuffer(int(fd), 16<<20) })
		if cerr != nil {
			err = cerr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// streamTo starts a stream to addr, where somebody sends back. The first
// packet has been answered when it returns.
func (s *sandbox) streamTo(name, addr string) *stream {
	s.h.t.Helper()
	var c net.Conn
	if err := netns.Do(s.ns, func() (err error) {
		c, err = net.Dial("udp", addr)
		return err
	}); err != nil {
		s.h.t.Fatal(err)
	}
	r := &stream{name: name, conn: c.(*net.UDPConn), stop: make(chan struct{})}
	patient(s.h.t, r.conn)
	s.h.t.Cleanup(func() { r.end() })
	eventually(s.h.t, func() error { // until both ends know each other's link address
		if _, err := c.Write(make([]byte, 8)); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 8))
		return err
	})
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		s.h.t.Fatal(err)
	}
	r.dropped = overflowed(s.h.t)
	go r.receive()
	r.done.Go(r.send)
	return r
}

func (r *stream) send() {
	tick := time.NewTicker(time.Second / streamRate)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], uint64(r.sent.Add(1)))
			_, _ = r.conn.Write(b[:]) // refused is lost
		}
	}
}

func (r *stream) receive() {
	seen := map[uint64]bool{0: true} // 0 was the first, of which there may be several
	for {
		var b [8]byte
		if _, err := r.conn.Read(b[:]); err != nil {
			select {
			case <-r.stop:
				return
			default:
				continue
			}
		}
		n := binary.BigEndian.Uint64(b[:])
		switch {
		case n == 0:
		case seen[n]:
			r.again.Add(1)
		default:
			seen[n] = true
			r.received.Add(1)
		}
	}
}

// overflowed returns how many packets the machine has dropped since its start
// because more came than its processors could look at (net.core.netdev_max_backlog).
// All namespaces share that queue: a flood in one costs others packets, whatever
// plugins do.
func overflowed(t testing.TB) (dropped int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) { // of each processor
		var all, own int64
		if _, err := fmt.Sscanf(line, "%x %x", &all, &own); err != nil {
			t.Fatalf("softnet_stat: %v in %q", err, line)
		}
		dropped += own
	}
	return dropped
}

// judge ends the stream, reports it, and fails the test if packets were lost
// that the machine had room for.
func (r *stream) judge(t testing.TB, report *faultReport) {
	t.Helper()
	sent, lost := r.end()
	flooded := min(lost, overflowed(t)-r.dropped)
	report.packets(sent, lost-flooded, flooded)
	if lost > flooded || r.again.Load() > 0 || sent < 2 {
		t.Errorf("bystanders, %s: of %d packets %d were lost, %d came twice", r.name, sent, lost, r.again.Load())
	}
}

// end stops the stream and returns how many packets were sent, and how many of
// them were not answered within a second of the last one.
func (r *stream) end() (sent, lost int64) {
	select {
	case <-r.stop:
	default:
		close(r.stop)
		r.done.Wait()
		deadline := time.Now().Add(time.Second)
		for tick := time.NewTicker(5 * time.Millisecond); r.received.Load() < r.sent.Load() && time.Now().Before(deadline); <-tick.C {
		}
		r.conn.Close()
	}
	return r.sent.Load(), r.sent.Load() - r.received.Load()
}
