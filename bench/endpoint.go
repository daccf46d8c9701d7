package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// endpointWord makes this program one end of a connection instead:
//
//	bench endpoint bare|go serve|ask ADDRESS
const endpointWord = "endpoint"

// Kinds of endpoints.
const (
	bare   = "bare" // blocking system calls
	golang = "go"   // package net
)

const port = 7777

// endpoint is one end, on the last core.
func endpoint(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want bare|go serve|ask ADDRESS, got %q", args)
	}
	addr, err := netip.ParseAddr(args[2])
	if err != nil {
		return err
	}
	// What is set before an exec holds for all threads after it.
	if os.Getenv("BENCH_PINNED") == "" {
		var set unix.CPUSet
		set.Set(runtime.NumCPU() - 1)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		return unix.Exec(self, os.Args, append(os.Environ(), "BENCH_PINNED=1", "GOMAXPROCS=1"))
	}
	c, err := dialOrAccept(args[0] == bare, args[1] == "serve", addr)
	if err != nil {
		return err
	}
	if args[1] == "serve" {
		return answer(c)
	}
	return ask(c)
}

// A conn sends and receives one byte.
type conn interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}

// blocking is a socket used by blocking system calls.
type blocking int

func (b blocking) Read(p []byte) (int, error)  { return unix.Read(int(b), p) }
func (b blocking) Write(p []byte) (int, error) { return unix.Write(int(b), p) }

// dialOrAccept connects the two ends. A server prints one byte when it listens.
func dialOrAccept(bare, serve bool, addr netip.Addr) (conn, error) {
	if !bare {
		at := netip.AddrPortFrom(addr, port).String()
		if !serve {
			return net.Dial("tcp", at)
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			return nil, err
		}
		fmt.Print("r")
		return l.Accept()
	}
	sa := &unix.SockaddrInet4{Port: port, Addr: addr.As4()}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	if serve {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return nil, err
		}
		if err := unix.Bind(fd, sa); err != nil {
			return nil, err
		}
		if err := unix.Listen(fd, 1); err != nil {
			return nil, err
		}
		fmt.Print("r")
		if fd, _, err = unix.Accept(fd); err != nil {
			return nil, err
		}
	} else if err := unix.Connect(fd, sa); err != nil {
		return nil, err
	}
	return blocking(fd), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

func answer(c conn) error {
	b := make([]byte, 1)
	for {
		if n, err := c.Read(b); n != 1 || err != nil {
			return nil // the other end is done
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// ask makes transactions for half a second and prints how many it made.
func ask(c conn) error {
	b := make([]byte, 1)
	start, n := time.Now(), 0
	for time.Since(start) < time.Second/2 {
		for range 100 {
			if _, err := c.Write(b); err != nil {
				return err
			}
			if k, err := c.Read(b); k != 1 {
				return fmt.Errorf("read %d bytes: %w", k, err)
			}
			n++
		}
	}
	fmt.Printf("%.0f\n", float64(n)/time.Since(start).Seconds())
	return nil
}
