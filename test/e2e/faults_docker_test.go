package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// dockerFaults kills the plugin and dockerd by turns while containers with
// published ports come and go. What runs on loses no packet, and removing what
// dockerd knows removes all that there is.
func dockerFaults(h *dockerHost) {
	if reference() {
		h.t.Skip("the claims are ours")
	}
	h.live = true // containers outlive dockerd
	h.stop("dockerd", "TERM")
	h.startDockerd()
	h.network("net", "--subnet", "10.95.0.0/24", "-o", "macspoofchk=true")
	h.network("second", "--subnet", "10.96.0.0/24")
	h.container("one", "--network", "net")
	h.container("two", "--network", "net", "-p", "18007:7/udp")
	r := &faultReport{times: map[faultRow]int{}}
	end := h.spared(r)
	rounds := 6
	if longFaults() {
		rounds = 60
	}
	for i := range rounds {
		name := fmt.Sprint("c", i)
		started := make(chan struct{})
		go func() { // which may fail, for that is what this is about
			defer close(started)
			_, _ = h.tryCLI("run", "-d", "--name", name, "--stop-signal", "KILL", "--network", "net", "-p", fmt.Sprintf("%d:80", 19000+i), "bb:1", "sleep", "3600")
			_, _ = h.tryCLI("network", "connect", "second", name)
			_, _ = h.tryCLI("network", "disconnect", "net", name)
		}()
		timer := time.NewTimer(rand.N(1200 * time.Millisecond))
		<-timer.C
		if i%2 == 0 {
			h.stop("plugin", "KILL")
			h.startPlugin()
			r.add("Docker plugin killed while containers come and go, one with a published port", "started again", 1)
		} else {
			h.stop("dockerd", "KILL")
			h.startDockerd()
			r.add("dockerd killed while containers come and go, one with a published port", "started again", 1)
		}
		<-started
		if out, err := h.tryCLI("rm", "-f", name); err != nil && !strings.Contains(out, "No such container") {
			h.t.Errorf("rm -f %s: %v %s", name, err, out)
		}
	}
	h.web("after", "--network", "net", "-p", "18080:80")
	h.beyond().mustSee("192.0.2.1:18080", "")
	end()
	h.removeAll()
	h.live = false
	h.stop("dockerd", "TERM")
	h.startDockerd()
	h.t.Log("\n" + r.table())
}

// spared has containers one and two send to each other, and the machine outside to
// a port of two, until end is called.
func (h *dockerHost) spared(r *faultReport) (end func()) {
	h.t.Helper()
	x, y := h.inContainer("one"), h.inContainer("two")
	y.echo(":7")
	streams := []*stream{
		x.streamTo("Docker container to its neighbour", net.JoinHostPort(h.place("two", "net").IPAddress, "7")),
		h.beyond().streamTo("outside to a published port", "192.0.2.1:18007"),
	}
	return func() {
		for _, s := range streams {
			s.judge(h.t, r)
		}
		x.ns.Close()
		y.ns.Close() // or they would outlive their containers
	}
}
