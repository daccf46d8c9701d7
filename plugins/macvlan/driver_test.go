package main

import (
	"os"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestMain keeps what processes wait for each other by out of the machine's own
// directories.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bowline-macvlan")
	if err != nil {
		panic(err)
	}
	os.Setenv("BOWLINE_RUN_DIR", dir)
	if err := os.Mkdir(dir+"/endpoints", 0o700); err != nil { // as where there are endpoints
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// newLAN gives the host the parent up0 on a LAN whose other end is lan0.
func newLAN(t testing.TB, host *netns.Handle) {
	t.Helper()
	for _, args := range [][]string{
		{"ip", "link", "add", "up0", "type", "veth", "peer", "name", "lan0"},
		{"ip", "addr", "add", "10.1.0.1/24", "dev", "up0"},
		{"ip", "addr", "add", "fd00:1::1/64", "dev", "up0", "nodad"},
		{"ip", "link", "set", "lan0", "up"},
		{"ip", "link", "set", "up0", "up"},
	} {
		netnstest.Command(t, host, args...)
	}
}

func testSuite(options map[string]string) drivertest.Suite {
	options["parent"], options["isDefaultGateway"] = "up0", "true"
	return drivertest.Suite{
		New:     func(ns bowline.Namespace) (bowline.Driver, error) { return newDriver(ns) },
		Options: options, Host: newLAN, Alone: true,
	}
}

func TestDriver(t *testing.T) { drivertest.Run(t, testSuite(map[string]string{})) }

func TestDriverWithHostAccess(t *testing.T) {
	drivertest.Run(t, testSuite(map[string]string{"host-access": "true"}))
}
