package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// connectWord makes this program one end of many short connections instead:
//
//	bench connect serve ADDRESS:PORT
//	bench connect ask ADDRESS:PORT COUNT
const connectWord = "connect"

// connecting is one end, on the last core, with blocking system calls.
func connecting(args []string) error {
	if len(args) < 2 || args[0] == "ask" && len(args) != 3 {
		return fmt.Errorf("want serve ADDRESS:PORT or ask ADDRESS:PORT COUNT, got %q", args)
	}
	at, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	sa := &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	if args[0] == "serve" {
		return acceptAll(sa)
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	start := time.Now()
	for range count {
		if err := connectOnce(sa); err != nil {
			return fmt.Errorf("connect to %v: %w", at, err)
		}
	}
	fmt.Printf("%.0f\n", float64(count)/time.Since(start).Seconds())
	return nil
}

// acceptAll prints one byte when it listens, and ends each connection at once.
func acceptAll(sa unix.Sockaddr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	if err := unix.Listen(fd, 1024); err != nil {
		return err
	}
	fmt.Print("r")
	for {
		c, _, err := unix.Accept(fd)
		if err != nil {
			return err
		}
		if _, err := unix.Write(c, []byte{1}); err != nil {
			return err
		}
		_, _ = unix.Read(c, make([]byte, 1)) // the end
		unix.Close(c)
	}
}

// connectOnce reads the byte and resets the connection, so that nothing of it
// stays to slow the next.
func connectOnce(sa unix.Sockaddr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 1))
	return err
}

// self is this program, to be one end in another namespace.
func self(args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}
