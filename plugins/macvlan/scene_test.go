package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// A scene is a host with the parent up0, and a LAN behind it, where 10.1.0.254
// and fd00:1::fe are.
//
//	containers -- up0 (10.1.0.1, fd00:1::1) == lan0 (10.1.0.254, fd00:1::fe)
//	               host                        lan
type scene struct {
	t         *testing.T
	host, lan *netns.Handle
	d         *driver
	n         bowline.NetworkConfig
	endpoints int
}

func newScene(t *testing.T, options map[string]string) *scene {
	t.Helper()
	s := &scene{t: t, host: netnstest.New(t), lan: netnstest.New(t)}
	newLAN(t, s.host)
	s.plug()
	var err error
	if s.d, err = newDriver(s.host); err != nil {
		t.Fatal(err)
	}
	if options["parent"] == "" && options["master"] == "" {
		options["parent"] = "up0"
	}
	s.n = drivertest.Network("web", options)
	if err := s.d.CreateNetwork(t.Context(), s.n); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a command in ns.
func (s *scene) run(ns *netns.Handle, command string) {
	s.t.Helper()
	netnstest.Command(s.t, ns, strings.Fields(command)...)
}

// plug puts the other end of the parent's cable into the LAN.
func (s *scene) plug() {
	s.t.Helper()
	s.run(s.host, fmt.Sprintf("ip link set lan0 netns /proc/%d/fd/%d", os.Getpid(), s.lan.Fd()))
	for _, c := range []string{"ip addr add 10.1.0.254/24 dev lan0", "ip addr add fd00:1::fe/64 dev lan0 nodad", "ip link set lan0 up"} {
		s.run(s.lan, c)
	}
}

// A container is an endpoint in its sandbox, dressed.
type container struct {
	bowline.EndpointSpec
	ns *netns.Handle
	a  bowline.Attachment
}

// attach makes an endpoint and gives its link addresses, as a face does.
func (s *scene) attach(change ...func(*bowline.EndpointSpec)) container {
	s.t.Helper()
	ns := netnstest.New(s.t)
	i := s.endpoints
	s.endpoints++
	e := bowline.EndpointSpec{
		ID: fmt.Sprintf("c%d/eth0", i), IfName: "eth0", Sandbox: ns,
		Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.1.0.%d/24", i+2)), netip.MustParsePrefix(fmt.Sprintf("fd00:1::%d/64", i+2))},
	}
	for _, f := range change {
		f(&e)
	}
	a, err := s.d.CreateEndpoint(s.t.Context(), s.n, e)
	if err != nil {
		s.t.Fatal(err)
	}
	c := container{e, ns, a}
	s.dress(c)
	return c
}

func (s *scene) dress(c container) {
	s.t.Helper()
	s.run(c.ns, "ip link set lo up")
	s.run(c.ns, "ip link set eth0 up")
	for _, p := range c.Addrs {
		s.run(c.ns, "ip addr replace "+p.String()+" dev eth0 nodad")
	}
}

// reaches reports whether one of three pings gets there and back: the first may
// be lost while a neighbour is being found.
func (s *scene) reaches(from *netns.Handle, to string) bool {
	s.t.Helper()
	err := netns.Do(from, func() error {
		return exec.Command("ping", "-c", "3", "-i", "0.3", "-W", "1", "-n", to).Run()
	})
	return err == nil
}

// want compares who reaches whom.
func (s *scene) want(what string, from *netns.Handle, want bool, to ...string) {
	s.t.Helper()
	for _, a := range to {
		if got := s.reaches(from, a); got != want {
			s.t.Errorf("%s reaches %s: %v, want %v", what, a, got, want)
		}
	}
}

// differs compares the keys of what Diff finds at the network and the endpoints.
func (s *scene) differs(want string, cs ...container) {
	s.t.Helper()
	var found []string
	for _, i := range s.d.Diff(s.t.Context(), s.places(cs...)) {
		if i.Err != nil {
			s.t.Fatal(i.Err)
		}
		for _, d := range i.Found {
			found = append(found, d.String())
		}
	}
	text := strings.Join(found, "; ")
	if want == "" && text != "" || !strings.Contains(text, want) {
		s.t.Errorf("Diff finds %q, want %q", text, want)
	}
}

func (s *scene) places(cs ...container) []bowline.Place {
	ps := []bowline.Place{{Network: s.n}}
	for _, c := range cs {
		ps = append(ps, bowline.Place{Network: s.n, Endpoint: c.EndpointSpec})
	}
	return ps
}

func (s *scene) repair(cs ...container) {
	s.t.Helper()
	for _, i := range s.d.Repair(s.t.Context(), s.places(cs...)) {
		if i.Err != nil {
			s.t.Fatal(i.Err)
		}
	}
	s.differs("", cs...)
}
