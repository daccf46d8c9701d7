package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A served is a plugin that serves Docker, traced from its start.
type served struct {
	tracer
	f    *faults
	done chan struct{} // closed when it has ended
}

// serve starts the plugin. If stopAt is not 0 it is killed before that change,
// which may be before it answers.
func (f *faults) serve(stopAt int) *served {
	f.t.Helper()
	s := &served{f: f, done: make(chan struct{})}
	s.stopAt.Store(int64(stopAt))
	log, err := os.OpenFile(f.dir+"/serve.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := f.command(bin("bowline-bridge"), "serve", "-ipam")
	cmd.Stderr = log
	go func() {
		defer close(s.done)
		defer log.Close()
		if err := f.do(func() error { return s.run(cmd) }); err != nil {
			f.t.Error(err)
		}
	}()
	f.t.Cleanup(func() { s.end(unix.SIGKILL) })
	eventually(f.t, func() error {
		select {
		case <-s.done:
			return nil
		default:
		}
		c, err := net.Dial("unix", f.dir+"/plugins/bowline-bridge.sock")
		if err == nil {
			c.Close()
		}
		return err
	})
	return s
}

// end sends the signal and waits for the plugin's end.
func (s *served) end(signal unix.Signal) {
	s.f.t.Helper()
	eventually(s.f.t, func() error {
		select {
		case <-s.done:
			return nil
		default:
		}
		if pid := s.main.Load(); pid != 0 {
			_ = unix.Kill(int(pid), signal) // again and again does no harm
		}
		return fmt.Errorf("the plugin does not end")
	})
}

// post calls a method as dockerd does.
func (f *faults) post(method string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", f.dir+"/plugins/bowline-bridge.sock")
		},
	}}
	r, err := client.Post("http://plugin/"+method, "application/json", bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if data, err = io.ReadAll(r.Body); err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %s", method, r.StatusCode, data)
	}
	return json.Unmarshal(data, answer)
}

// A life is that of one container on a network of its own, as dockerd leads it.
type life struct {
	*faults
	box    *sandbox
	pool   string
	link   string // what Join said, until it is moved into the sandbox
	inside bool
}

type moment struct {
	method string
	body   func(l *life) any
	undoes int // the moment that this takes back; 0: none
}

// moments are the calls of a life, in their order.
func moments() []moment {
	type m = map[string]any
	on := func(*life) any { return m{"NetworkID": "n", "EndpointID": "e"} }
	ports := []any{m{"Proto": 6, "Port": 80, "HostPort": 8088}, m{"Proto": 17, "Port": 53, "HostPort": 8053}}
	address := func(a string, o m) func(l *life) any {
		return func(l *life) any { return m{"PoolID": l.pool, "Address": a, "Options": o} }
	}
	gateway := m{"RequestAddressType": "com.docker.network.gateway"}
	return []moment{
		{"IpamDriver.RequestPool", func(*life) any {
			return m{"AddressSpace": "bowlineLocal", "Pool": "10.77.0.0/24", "SubPool": "", "Options": m{}, "V6": false}
		}, 0},
		{"IpamDriver.RequestAddress", address("10.77.0.1", gateway), 0},
		{"NetworkDriver.CreateNetwork", func(*life) any {
			return m{"NetworkID": "n", "Options": m{"com.docker.network.generic": m{"macspoofchk": "true", "policy": "deny egress tcp 25", "acd": "true"}},
				"IPv4Data": []any{m{"AddressSpace": "bowlineLocal", "Pool": "10.77.0.0/24", "Gateway": "10.77.0.1/24"}}, "IPv6Data": []any{}}
		}, 0},
		{"IpamDriver.RequestAddress", address("10.77.0.2", m{}), 0},
		{"NetworkDriver.CreateEndpoint", func(*life) any {
			return m{"NetworkID": "n", "EndpointID": "e", "Interface": m{"Address": "10.77.0.2/24", "AddressIPv6": "", "MacAddress": ""},
				"Options": m{"com.docker.network.portmap": ports, "com.docker.network.endpoint.exposedports": []any{}}}
		}, 0},
		{"NetworkDriver.Join", func(l *life) any {
			return m{"NetworkID": "n", "EndpointID": "e", "SandboxKey": l.box.path, "Options": m{}}
		}, 0},
		{"NetworkDriver.ProgramExternalConnectivity", func(*life) any {
			return m{"NetworkID": "n", "EndpointID": "e", "Options": m{"com.docker.network.portmap": ports}}
		}, 0},
		{"NetworkDriver.RevokeExternalConnectivity", on, 6},
		{"NetworkDriver.Leave", on, 5},
		{"NetworkDriver.DeleteEndpoint", on, 4},
		{"IpamDriver.ReleaseAddress", address("10.77.0.2", nil), 3},
		{"NetworkDriver.DeleteNetwork", func(*life) any { return m{"NetworkID": "n"} }, 2},
		{"IpamDriver.ReleaseAddress", address("10.77.0.1", nil), 1},
		{"IpamDriver.ReleasePool", func(l *life) any { return m{"PoolID": l.pool} }, 0},
	}
}

// live makes one call, and does what dockerd does before and after it.
func (l *life) live(m moment) error {
	var answer struct {
		PoolID        string
		InterfaceName struct{ SrcName string }
	}
	if m.method == "NetworkDriver.Leave" && l.inside {
		l.box.run("ip", "link", "set", "eth0", "down")
		l.box.run("ip", "link", "set", "eth0", "name", l.link, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.ns.Fd()))
		l.inside = false
	}
	if err := l.post(m.method, m.body(l), &answer); err != nil {
		return err
	}
	switch m.method {
	case "IpamDriver.RequestPool":
		l.pool = answer.PoolID
	case "NetworkDriver.Join":
		l.link = answer.InterfaceName.SrcName
		l.run("ip", "link", "set", l.link, "netns", l.box.path, "name", "eth0")
		l.inside = true
	}
	return nil
}

// lead leads a life. The plugin is killed before change n of moment k, or, if k
// is -1, of its start in mid-life. Then it is started again, and dockerd repeats
// the call, or gives up and takes back what was begun. lead is false if there
// are not so many changes.
func (l *life) lead(k, n int, giveUp bool) (what string, killed bool) {
	l.t.Helper()
	s := l.serve(0)
	last := len(moments())
	for i, m := range moments() {
		if i > last && (m.undoes == 0 || m.undoes > last) && m.method != "IpamDriver.ReleasePool" {
			continue // it was never begun
		}
		if k == -1 && m.undoes == 6 {
			s.end(unix.SIGKILL)
			s = l.serve(n)
			killed, what = s.wasKilled(), "start"
			if killed {
				s = l.serve(0)
			}
		}
		if i != k {
			if err := l.live(m); err != nil {
				l.t.Fatalf("%s, after %s was killed before change %d: %v\n%s", m.method, moments()[max(0, k)].method, n, err, l.serveLog())
			}
			continue
		}
		what = m.method
		s.stopAt.Store(s.seen.Load() + int64(n))
		err := l.live(m)
		if killed = s.wasKilled(); killed {
			s = l.serve(0)
		}
		switch {
		case err == nil:
		case !killed:
			l.t.Fatalf("%s: %v\n%s", m.method, err, l.serveLog())
		case giveUp && m.undoes == 0:
			last = i
		default:
			// An address that was asked for by value, of which the answer was lost:
			// nothing tells dockerd from somebody else. It ends with its pool.
			if err := l.live(m); err != nil && m.method == "IpamDriver.RequestAddress" && strings.Contains(err.Error(), "is taken") {
				last = i - 1
			} else if err != nil {
				l.t.Fatalf("%s again, after the plugin was killed before its change %d: %v\n%s", m.method, n, err, l.serveLog())
			}
		}
	}
	s.end(unix.SIGTERM)
	return what, killed
}

// wasKilled reports whether the plugin came to the change that it was to be
// killed at. From then on it lives.
func (s *served) wasKilled() bool {
	at := s.stopAt.Swap(0)
	if at == 0 || s.seen.Load() < at {
		return false
	}
	select {
	case <-s.done:
		return true
	case <-time.After(2 * time.Second):
		return false // it came there a moment later
	}
}

func (f *faults) serveLog() string {
	log, err := os.ReadFile(f.dir + "/serve.log")
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// cnmKilled kills the plugin under dockerd's calls, before each of its changes.
func cnmKilled(f *faults) {
	f.bystanders(allOn("db", db4, db6))
	l := &life{faults: f, box: f.sandbox("a")}
	l.lead(0, 1<<30, false) // brings what is shared and stays
	step := 9
	if longFaults() {
		step = 1
	}
	for k := -1; k < len(moments()); k++ {
		for _, giveUp := range []bool{false, true} {
			begins := k >= 0 && k < 7 // what ends is repeated until it has ended
			if giveUp && !begins || !longFaults() && begins && giveUp != (k%2 == 0) {
				continue
			}
			for n := 1 + (k+1)%step; ; n += step {
				before := f.whole()
				what, killed := l.lead(k, n, giveUp)
				l.box.empty(what)
				f.age(".tmp-*")
				f.bowline("gc") // which the plugin does for itself a minute after its start
				if d := diff(before, f.whole()); d != "" {
					f.t.Fatalf("%s, killed before change %d:\n%s", what, n, d)
				}
				if !killed {
					break
				}
				then := map[bool]string{false: "started again, the call repeated, all undone", true: "started again, what was begun undone"}[giveUp]
				f.report.add("Docker plugin killed before each of its changes in "+what, then, 1)
			}
		}
	}
}
