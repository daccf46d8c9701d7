package link

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deleteDetached sends the request, which deletes the links with those indexes,
// and returns as soon as the kernel has announced that all are gone, while
// somebody else sits out the rest of the system call: a child process, or a
// thread if this process stays.
//
// The announcement (RTM_DELLINK) comes after the device and its peer have been
// taken off all lists, and before rtnl_unlock starts to wait for the grace
// period (netdev_run_todo in net/core/dev.c): from then on nobody can find,
// use or be in the way of the name. Of a process that ends with the call a thread
// would not do: whoever waits for the process waits for its threads.
func (h *Handle) deleteDetached(deletion *msg, indexes []int) error {
	var watch, send int = -1, -1
	err := h.inside(func() (err error) {
		if watch, err = linkSocket(unix.RTMGRP_LINK); err == nil {
			send, err = linkSocket(0)
		}
		return err
	})
	defer closeAll(&watch, &send)
	if err != nil {
		return err
	}
	var alive [2]int // the child holds the writing end: end of file is its end
	if err := unix.Pipe2(alive[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer closeAll(&alive[0], &alive[1])
	var reap func()
	if h.Stays {
		reap = func() {}
		request, s, a := slices.Clone(deletion.finish(1)), send, alive[1]
		send, alive[1] = -1, -1 // the thread's now
		go func() {
			_, _ = unix.Write(s, request)
			closeAll(&s, &a)
		}()
	} else if reap, err = h.forkWaiter(send, &alive[1], deletion.finish(1)); err != nil {
		return err
	}
	gone, err := waitGone(watch, alive[0], indexes)
	if err != nil || gone {
		return err
	}
	// The system call ended and nothing was announced: the kernel refused, or the
	// link was gone before. Ask again, this time for the answer.
	reap()
	return orGone(h.conn.do(deletion))
}

// forkWaiter leaves the request to a child, to which alive goes. reap waits for
// its end.
func (h *Handle) forkWaiter(send int, alive *int, request []byte) (reap func(), err error) {
	keep := -1
	if h.Keep != nil {
		keep = h.Keep()
	}
	pid, err := forkWrite(send, *alive, keep, request)
	if err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	closeAll(alive)
	return func() {
		var status unix.WaitStatus
		_, _ = unix.Wait4(pid, &status, 0, nil)
	}, nil
}

// waitGone waits for the announcements, or for the child's end: then it is false.
func waitGone(watch, alive int, indexes []int) (bool, error) {
	left := map[int]bool{}
	for _, index := range indexes {
		left[index] = true
	}
	buf := make([]byte, 64<<10)
	for {
		fds := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}, {Fd: int32(alive), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return false, fmt.Errorf("wait for the end of a link: %w", err)
		}
		if fds[0].Revents != 0 {
			n, _, err := unix.Recvfrom(watch, buf, 0)
			if err != nil && err != unix.EINTR && err != unix.ENOBUFS {
				return false, fmt.Errorf("wait for the end of a link: %w", err)
			}
			announced(buf[:max(n, 0)], func(index int) { delete(left, index) })
			if len(left) == 0 {
				return true, nil
			}
			continue
		}
		if fds[1].Revents != 0 {
			return false, nil
		}
	}
}

// announced calls f with the index of each link whose end b tells. The end of
// its being a bridge port is told first, with family AF_BRIDGE.
func announced(b []byte, f func(index int)) {
	for len(b) >= headerLen+unix.SizeofIfInfomsg {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerLen || size > len(b) {
			return
		}
		if binary.NativeEndian.Uint16(b[4:]) == unix.RTM_DELLINK && b[headerLen] == unix.AF_UNSPEC {
			f(int(int32(binary.NativeEndian.Uint32(b[headerLen+4:]))))
		}
		b = b[min((size+3)&^3, len(b)):]
	}
}

func linkSocket(groups uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind netlink socket: %w", err)
	}
	return fd, nil
}

func closeAll(fds ...*int) {
	for _, fd := range fds {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// forkWrite starts a child that writes data to the socket and exits. It holds
// nothing else of ours open but alive, and keep unless it is -1: not our
// standard output, whose end the engine waits for, not a lock, not a namespace.
func forkWrite(socket, alive, keep int, data []byte) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A signal handled in the child would run Go's handler in a process that
	// has no Go runtime left.
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	r, errno := fork(uintptr(socket), uintptr(alive), uintptr(keep), unsafe.Pointer(&data[0]), uintptr(len(data)))
	runtime.KeepAlive(data)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// fork returns in the parent only. Between clone and exit the child may do
// nothing but raw system calls: no allocation, no lock, no stack growth. This
// is how the standard library's syscall package starts processes.
//
//go:noinline
//go:norace
//go:nosplit
func fork(socket, alive, keep uintptr, data unsafe.Pointer, size uintptr) (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	// Move them to 0, 1 and 2 by way of numbers that none of them has.
	s, _, _ := syscall.RawSyscall(syscall.SYS_FCNTL, socket, syscall.F_DUPFD, 64)
	a, _, _ := syscall.RawSyscall(syscall.SYS_FCNTL, alive, syscall.F_DUPFD, 64)
	k, _, kept := syscall.RawSyscall(syscall.SYS_FCNTL, keep, syscall.F_DUPFD, 64)
	syscall.RawSyscall(syscall.SYS_DUP3, s, 0, 0)
	syscall.RawSyscall(syscall.SYS_DUP3, a, 1, 0)
	first := uintptr(2)
	if kept == 0 {
		syscall.RawSyscall(syscall.SYS_DUP3, k, 2, 0)
		first = 3
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, first, 1<<31-1, 0); e != 0 { // before Linux 5.9
		for fd := first; fd < 1024; fd++ {
			syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
		}
	}
	syscall.RawSyscall(syscall.SYS_WRITE, 0, uintptr(data), size)
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
