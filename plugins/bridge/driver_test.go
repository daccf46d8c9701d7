package main

import (
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
)

func newTestDriver(ns bowline.Namespace) (bowline.Driver, error) { return newDriver(ns) }

func TestDriver(t *testing.T) { drivertest.Run(t, newTestDriver) }
