package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tracer stops a command, and all that it starts, before each system call
// that changes something. Whichever process is about to make the change number
// stopAt is killed, or something else is done first. Between two changes there
// is nothing to be told apart, so counting stopAt up until the command runs
// through meets every state that a kill can leave.
type tracer struct {
	stopAt atomic.Int64 // counted from 1; 0 stops nobody
	seen   atomic.Int64 // changes so far
	first  func()       // called before the change instead of a kill, if not nil
	change string       // what change number stopAt was; empty if there was none

	main   atomic.Int64
	status syscall.WaitStatus // of the main process
	live   map[int]bool       // threads; false: ended
}

// changes names the system calls that change something, or may.
func changes() map[uint64]string {
	return map[uint64]string{
		unix.SYS_OPENAT: "openat", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite", unix.SYS_SENDTO: "sendto",
		unix.SYS_SENDMSG: "sendmsg", unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_UNLINKAT: "unlinkat",
		unix.SYS_MKDIRAT: "mkdirat", unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_LINKAT: "linkat", unix.SYS_FTRUNCATE: "ftruncate",
		unix.SYS_FALLOCATE: "fallocate", unix.SYS_FCHMODAT: "fchmodat", unix.SYS_MOUNT: "mount", unix.SYS_UMOUNT2: "umount",
	}
}

// A syscallInfo is struct ptrace_syscall_info (linux/ptrace.h), as far as the
// entry of a call fills it.
type syscallInfo struct {
	op   uint8
	_    [3]byte
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64
	args [6]uint64
}

const (
	ptraceGetSyscallInfo = 0x420e
	syscallEntry         = 1
)

// run starts the command, whose input and outputs must be files, and returns
// when it and all that it started have ended. It must be called in [host.do],
// for only the thread that starts a process may trace it.
func (r *tracer) run(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.live = map[int]bool{cmd.Process.Pid: true}
	r.main.Store(int64(cmd.Process.Pid))
	defer cmd.Process.Release()
	for r.alive() {
		pid, err := next(r.live)
		if err != nil {
			return err
		}
		// Not for long: what was to be told may be gone because of a kill, and the
		// end of a process comes after that of its threads, which is ours to hear.
		var status syscall.WaitStatus
		if got, err := syscall.Wait4(pid, &status, unix.WALL|unix.WNOHANG, nil); err != nil {
			return fmt.Errorf("wait for %d: %w", pid, err)
		} else if got == 0 {
			continue
		}
		if status.Stopped() {
			r.stopped(pid, status)
			continue
		}
		r.live[pid] = false
		if int64(pid) == r.main.Load() {
			r.status = status
		}
	}
	return nil
}

func (r *tracer) alive() bool {
	for _, alive := range r.live {
		if alive {
			return true
		}
	}
	return false
}

// next waits until something happens to one of live, or to a process that one
// of them has started. Other tests may have started processes on this thread
// before; those are theirs to wait for.
func next(live map[int]bool) (int, error) {
	for {
		var info struct {
			signo, errno, code, _ int32
			pid                   int32
			_                     [108]byte
		}
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT|unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, fmt.Errorf("wait for any of %v: %w", live, err)
		}
		pid := int(info.pid)
		if live[pid] || traced(pid) {
			return pid, nil
		}
	}
}

// traced reports whether this process traces pid.
func traced(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && strings.Contains(string(text), "\nTracerPid:\t"+strconv.Itoa(unix.Gettid())+"\n")
}

// stopped lets a thread that has stopped go on, or ends its process.
func (r *tracer) stopped(pid int, status syscall.WaitStatus) {
	first := !r.live[pid]
	r.live[pid] = true
	deliver := 0
	switch sig := status.StopSignal(); {
	case sig == unix.SIGTRAP|0x80:
		if call := change(pid); call != "" && r.seen.Add(1) == r.stopAt.Load() {
			r.change = call
			if r.first == nil {
				_ = unix.Kill(pid, unix.SIGKILL)
				return
			}
			r.first()
		}
	case sig == unix.SIGTRAP && status.TrapCause() > 0: // told by the options below
		if msg, err := syscall.PtraceGetEventMsg(pid); err == nil && status.TrapCause() != unix.PTRACE_EVENT_EXEC {
			if _, known := r.live[int(msg)]; !known {
				r.live[int(msg)] = true
			}
		}
	case sig == unix.SIGTRAP && int64(pid) == r.main.Load() && r.seen.Load() == 0: // after its first execve
		_ = syscall.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEFORK|
			unix.PTRACE_O_TRACEVFORK|unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_EXITKILL)
	case sig == unix.SIGSTOP || first: // how a new thread begins
	default:
		deliver = int(sig)
	}
	_ = syscall.PtraceSyscall(pid, deliver) // unless it was killed meanwhile
}

// change returns the name of the call that the thread is about to make if it
// may change something, or "".
func change(pid int) string {
	var s syscallInfo
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(pid), unsafe.Sizeof(s), uintptr(unsafe.Pointer(&s)), 0, 0); errno != 0 || s.op != syscallEntry {
		return ""
	}
	name := changes()[s.nr]
	switch name {
	case "openat":
		if s.args[2]&(unix.O_CREAT|unix.O_TRUNC) == 0 {
			return ""
		}
	case "sendto":
		if asks(pid, s.args[1]) {
			return ""
		}
	case "sendmsg":
		if vector := peek(pid, s.args[1]+16); asks(pid, peek(pid, vector)) {
			return ""
		}
	case "write", "pwrite": // the runtime of Go wakes itself up by one
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(s.args[0])))
		if err != nil || strings.HasPrefix(to, "anon_inode:") {
			return ""
		}
	}
	return name
}

// peek returns the word at an address of the thread, or 0.
func peek(pid int, addr uint64) uint64 {
	var b [8]byte
	if n, err := syscall.PtracePeekData(pid, uintptr(addr), b[:]); err != nil || n != len(b) {
		return 0
	}
	return binary.NativeEndian.Uint64(b[:])
}

// asks reports whether the netlink message at an address of the thread only
// asks for something.
func asks(pid int, addr uint64) bool {
	typ := uint16(peek(pid, addr) >> 32)
	switch typ >> 8 {
	case 0: // rtnetlink: NEW, DEL, GET, SET
		return typ >= unix.RTM_BASE && (typ-unix.RTM_BASE)%4 == 2
	case unix.NFNL_SUBSYS_NFTABLES:
		return slices.Contains([]uint16{
			unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETSETELEM,
			unix.NFT_MSG_GETGEN, unix.NFT_MSG_GETOBJ, unix.NFT_MSG_GETFLOWTABLE,
		}, typ&0xff)
	}
	return false
}
