package keeper

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestStrangersAreTurnedAway, even where the permissions of the socket let them.
func TestStrangersAreTurnedAway(t *testing.T) {
	t.Parallel()
	netnstest.RequireRoot(t)
	dir, err := os.MkdirTemp("/tmp", "k")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := (trusting{l, slog.New(slog.DiscardHandler)}).Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
	for uid, want := range map[int]string{0: "hello", 65534: ""} {
		said := make(chan string)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its user
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				said <- errno.Error()
				return
			}
			said <- ask(path)
		}()
		if got := <-said; got != want {
			t.Errorf("user %d is told %q, want %q", uid, got, want)
		}
	}
}

// ask connects with raw system calls, so as to do it on this thread.
func ask(path string) string {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err.Error()
	}
	b := make([]byte, 16)
	n, err := unix.Read(fd, b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}
