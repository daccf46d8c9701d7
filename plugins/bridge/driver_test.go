package main

import (
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
)

func newTestDriver(ns bowline.Namespace) (bowline.Driver, error) { return newDriver(ns) }

func testOptions() map[string]string {
	return map[string]string{"isDefaultGateway": "true", "ipMasq": "true"}
}

// testNetwork is a dual-stack network whose containers get out through NAT.
func testNetwork(id string) bowline.NetworkConfig { return drivertest.Network(id, testOptions()) }

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Suite{New: newTestDriver, Options: testOptions()})
}
