package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// floodWord makes this program one end of a TCP stream that goes as fast as it
// may:
//
//	bench flood serve|send ADDRESS:PORT SECONDS
const floodWord = "flood"

// flood is one end.
func flood(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want serve|send ADDRESS:PORT SECONDS, got %q", args)
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	at := to.String()
	if args[0] == "serve" {
		return sink(at, time.Duration(seconds)*time.Second)
	}
	c, err := net.Dial("tcp", at)
	if err != nil {
		return err
	}
	b := make([]byte, 256<<10)
	for {
		if _, err := c.Write(b); err != nil {
			return nil // the other end has had enough
		}
	}
}

// sink prints one byte when it listens, receives for that long from the first
// byte on, and prints how many bytes a second came.
func sink(at string, long time.Duration) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	fmt.Print("r")
	c, err := l.Accept()
	if err != nil {
		return err
	}
	b := make([]byte, 1<<20)
	total, err := c.Read(b)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := c.SetReadDeadline(start.Add(long)); err != nil {
		return err
	}
	for {
		n, err := c.Read(b)
		total += n
		if err != nil {
			break
		}
	}
	fmt.Printf("%.0f\n", float64(total)/time.Since(start).Seconds())
	return nil
}
