package drivertest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// publishes is what every driver must do that is a Publisher.
func publishes(t *testing.T, s Suite) {
	for name, f := range map[string]func(*testing.T, *host, bowline.Publisher){
		"ports come and go":                  portsComeAndGo,
		"chosen ports stay":                  chosenPortsStay,
		"taken port":                         takenPort,
		"port of a process":                  portOfProcess,
		"publish replaces":                   publishReplaces,
		"check sees ports":                   checkSeesPorts,
		"failure at each step with ports":    failWithPorts,
		"failure at each step of publishing": failPublishing,
		"prune and delete end ports":         pruneEndsPorts,
		"wrong ports touch nothing":          wrongPorts,
		"ports of many at once":              portsAtOnce,
		"ports before addresses":             portsBeforeAddresses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := s.host(t)
			if p, ok := h.d.(bowline.Publisher); ok { // an optional ability
				netnstest.Command(t, h.ns, "ip", "link", "set", "lo", "up")
				f(t, h, p)
			}
		})
	}
}

// with returns e with ports.
func with(e bowline.EndpointSpec, ms ...bowline.PortMapping) bowline.EndpointSpec {
	e.Ports = ms
	return e
}

func tcp(host, port uint16) bowline.PortMapping {
	return bowline.PortMapping{HostPort: host, Port: port, Protocol: "tcp"}
}

// kinds are mappings of every kind, the last two with a port to choose.
func kinds() []bowline.PortMapping {
	few := tcp(9000, 82)
	few.HostPortEnd = 9009
	return []bowline.PortMapping{
		{HostPort: 5300, Port: 53, Protocol: "udp"},
		{HostPort: 9, Port: 9, Protocol: "sctp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8081, Port: 80, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("::1"), HostPort: 8081, Port: 80, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: 8443, Port: 443, Protocol: "tcp"},
		{HostPort: 20000, Port: 20000, Count: 10000, Protocol: "tcp"},
		{HostPort: 7000, Port: 70, Count: 10, Protocol: "udp"},
		tcp(0, 81),
		few,
	}
}

// createPublishing is create with ports too.
func (h *host) createPublishing(n bowline.NetworkConfig) (made string) {
	h.t.Helper()
	h.must(h.d.CreateNetwork(h.t.Context(), n))
	e := with(endpoint(99, netnstest.New(h.t)), tcp(1, 1))
	e.Ports = h.attach(n, e).Ports
	h.must(h.d.DeleteEndpoint(h.t.Context(), n, e))
	return Snapshot(h.t, h.ns)
}

func portsComeAndGo(t *testing.T, h *host, p bowline.Publisher) {
	n := h.network()
	made := h.createPublishing(n)
	e := with(endpoint(0, netnstest.New(t)), kinds()...)
	for name, remove := range map[string]func(bowline.EndpointSpec) error{
		"as it was": func(e bowline.EndpointSpec) error { return h.d.DeleteEndpoint(t.Context(), n, e) },
		"by ID": func(e bowline.EndpointSpec) error {
			return h.d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: e.ID})
		},
		"unpublished first": func(e bowline.EndpointSpec) error {
			return errors.Join(p.Unpublish(t.Context(), n, e), h.d.DeleteEndpoint(t.Context(), n, with(e)))
		},
	} {
		a := h.attach(n, e)
		for i, m := range a.Ports {
			if m.HostPort == 0 || m.HostPortEnd != 0 {
				t.Errorf("%s: port %d is %s: no port was chosen", name, i, m)
			}
		}
		if len(a.Ports) != len(e.Ports) {
			t.Errorf("%s: the attachment has %v", name, a.Ports)
		}
		now := e
		now.Ports, now.MAC = a.Ports, a.MAC
		h.must(h.d.CheckEndpoint(t.Context(), n, now))
		for range 2 {
			h.must(remove(now))
		}
		h.same("after DeleteEndpoint "+name, made)
	}
}

// chosenPortsStay: who asks for any port again gets the one that it has.
func chosenPortsStay(t *testing.T, h *host, p bowline.Publisher) {
	n, e := h.network(), with(endpoint(0, netnstest.New(t)), kinds()...)
	h.createPublishing(n)
	first := h.attach(n, e)
	made := Snapshot(t, h.ns)
	if again := h.attach(n, e); !slices.Equal(again.Ports, first.Ports) {
		t.Errorf("second CreateEndpoint has %v, first had %v", again.Ports, first.Ports)
	}
	ms, err := p.Publish(t.Context(), n, e)
	if err != nil || !slices.Equal(ms, first.Ports) {
		t.Errorf("Publish = %v, %v; CreateEndpoint had %v", ms, err, first.Ports)
	}
	h.same("after publishing the same again", made)
	last := h.attach(n, with(endpoint(1, netnstest.New(t)), tcp(0, 81)))
	if len(last.Ports) != 1 || slices.ContainsFunc(first.Ports, func(m bowline.PortMapping) bool { return m.HostPort == last.Ports[0].HostPort }) {
		t.Errorf("another endpoint got %v beside %v", last.Ports, first.Ports)
	}
}

func takenPort(t *testing.T, h *host, p bowline.Publisher) {
	n := h.network()
	h.createPublishing(n)
	h.attach(n, with(endpoint(0, netnstest.New(t)), kinds()...))
	made := Snapshot(t, h.ns)
	few := tcp(8081, 80)
	few.HostPortEnd = 8081
	for _, m := range []bowline.PortMapping{
		{HostPort: 5300, Port: 1, Protocol: "udp"}, {HostPort: 25000, Port: 1, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 9, Port: 9, Protocol: "sctp"}, tcp(8081, 1), tcp(29999, 29999),
		{HostPort: 6999, Port: 1, Count: 2, Protocol: "udp"},
	} {
		_, err := h.d.CreateEndpoint(t.Context(), n, with(endpoint(1, netnstest.New(t)), tcp(3, 3), m))
		if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "c0/eth0") || !strings.Contains(err.Error(), "is taken") {
			t.Errorf("%s: %v, want ErrConflict that names c0/eth0", m, err)
		}
		h.same("after a taken port", made)
	}
	if _, err := h.d.CreateEndpoint(t.Context(), n, with(endpoint(1, netnstest.New(t)), few)); !errors.Is(err, bowline.ErrExhausted) {
		t.Errorf("one of no free ports: %v, want ErrExhausted", err)
	}
	h.same("after no free port", made)
}

// listen opens a socket on the host.
func (h *host) listen(network, address string) (port uint16) {
	h.t.Helper()
	h.must(netns.Do(h.ns, func() error {
		if strings.HasPrefix(network, "udp") {
			c, err := net.ListenPacket(network, address)
			if err == nil {
				h.t.Cleanup(func() { c.Close() })
				port = netip.MustParseAddrPort(c.LocalAddr().String()).Port()
			}
			return err
		}
		l, err := net.Listen(network, address)
		if err == nil {
			h.t.Cleanup(func() { l.Close() })
			port = netip.MustParseAddrPort(l.Addr().String()).Port()
		}
		return err
	}))
	return port
}

func portOfProcess(t *testing.T, h *host, p bowline.Publisher) {
	n := h.network()
	made := h.createPublishing(n)
	loopback, wildcard, udp := h.listen("tcp4", "127.0.0.1:0"), h.listen("tcp", ":0"), h.listen("udp4", "127.0.0.1:0")
	at := func(ip, protocol string, port uint16, row uint16) bowline.PortMapping {
		m := bowline.PortMapping{HostPort: port, Port: 80, Protocol: protocol, Count: row}
		if ip != "" {
			m.HostIP = netip.MustParseAddr(ip)
		}
		return m
	}
	self := fmt.Sprintf("process %d, ", os.Getpid())
	for _, m := range []bowline.PortMapping{
		at("", "tcp", loopback, 1), at("0.0.0.0", "tcp", loopback, 1), at("127.0.0.1", "tcp", loopback, 1), at("", "tcp", loopback-2, 5),
		at("127.0.0.1", "tcp", wildcard, 1), at("::1", "tcp", wildcard, 1), at("", "udp", udp, 1),
	} {
		_, err := h.d.CreateEndpoint(t.Context(), n, with(endpoint(0, netnstest.New(t)), m))
		if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), self) {
			t.Errorf("%s: %v, want ErrConflict that names this process, %d", m, err, os.Getpid())
		}
		h.same("after a port that a process has", made)
	}
	for i, m := range []bowline.PortMapping{at("::", "tcp", loopback, 1), at("127.0.0.2", "tcp", loopback, 1), at("", "tcp", udp, 1)} {
		if _, err := h.d.CreateEndpoint(t.Context(), n, with(endpoint(i, netnstest.New(t)), m)); err != nil {
			t.Errorf("%s: %v, want no conflict with what listens elsewhere", m, err)
		}
	}
	// Who listens later does not keep an endpoint from what it has.
	e := with(endpoint(9, netnstest.New(t)), tcp(0, 80))
	e.Ports = h.attach(n, e).Ports
	h.listen("tcp4", fmt.Sprintf("127.0.0.1:%d", e.Ports[0].HostPort))
	if _, err := p.Publish(t.Context(), n, e); err != nil {
		t.Errorf("publishing again beside a late listener: %v", err)
	}
}

func publishReplaces(t *testing.T, h *host, p bowline.Publisher) {
	n := h.network()
	h.createPublishing(n)
	h.attach(n, with(endpoint(1, netnstest.New(t)), tcp(9999, 1)))
	e := endpoint(0, netnstest.New(t))
	h.attach(n, e)
	without := Snapshot(t, h.ns)
	for _, ms := range [][]bowline.PortMapping{{tcp(80, 80)}, kinds(), {tcp(81, 81), tcp(82, 82)}, {tcp(82, 80)}, {tcp(0, 80)}} {
		now, err := p.Publish(t.Context(), n, with(e, ms...))
		if err != nil || len(now) != len(ms) {
			t.Fatalf("Publish = %v, %v", now, err)
		}
		h.must(h.d.CheckEndpoint(t.Context(), n, with(e, now...)))
		published := Snapshot(t, h.ns)
		if _, err := p.Publish(t.Context(), n, with(e, tcp(70, 70), tcp(9999, 80))); !errors.Is(err, bowline.ErrConflict) {
			t.Errorf("Publish of a taken port: %v, want ErrConflict", err)
		}
		h.same("after a taken port", published)
		h.must(p.Unpublish(t.Context(), n, bowline.EndpointSpec{ID: e.ID}))
		h.same("after Unpublish", without)
		_, err = p.Publish(t.Context(), n, with(e, now...))
		h.must(err)
		h.same("published again", published)
	}
	ms, err := p.Publish(t.Context(), n, with(e))
	if err != nil || len(ms) != 0 {
		t.Errorf("Publish of nothing = %v, %v", ms, err)
	}
	h.same("after publishing nothing", without)
	h.must(p.Unpublish(t.Context(), n, e))
	if _, err := p.Publish(t.Context(), n, with(endpoint(7, nil), tcp(80, 80))); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("Publish for an endpoint that is not there: %v, want ErrUnknown", err)
	}
}

func checkSeesPorts(t *testing.T, h *host, p bowline.Publisher) {
	n, e := h.network(), endpoint(0, netnstest.New(t))
	h.createPublishing(n)
	e.Ports = h.attach(n, with(e, kinds()...)).Ports
	h.must(h.d.CheckEndpoint(t.Context(), n, e))
	for i := range e.Ports {
		less := slices.Delete(slices.Clone(e.Ports), i, i+1)
		_, err := p.Publish(t.Context(), n, with(e, less...))
		h.must(err)
		if err := h.d.CheckEndpoint(t.Context(), n, e); !errors.Is(err, bowline.ErrDiffers) {
			t.Errorf("CheckEndpoint without %s: %v, want ErrDiffers", e.Ports[i], err)
		}
	}
}
