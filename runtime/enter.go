package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
)

// ErrNoCommand says that the command to run was not found or not executable.
var ErrNoCommand = errors.New("cannot run")

// Exec replaces this process by a command inside the sandbox's network
// namespace; everything else of the process stays as it is. It returns only if
// that fails, [ErrNoCommand] if it is because of the command. It must be called
// from the main goroutine, for the main thread is what survives an exec.
func (r *Runtime) Exec(ctx context.Context, sandbox string, argv []string) error {
	s, err := r.live(ctx, sandbox)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrNoCommand, argv[0], errors.Unwrap(err))
	}
	h, err := netns.Open(s.Path)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := unix.Setns(int(h.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter sandbox %q: %w", sandbox, err)
	}
	err = unix.Exec(path, argv, os.Environ())
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOEXEC) {
		return fmt.Errorf("%w %s: %w", ErrNoCommand, path, err)
	}
	return fmt.Errorf("run %s: %w", path, err)
}

// loopbackUp brings up lo of the calling thread's namespace; the kernel gives it
// its addresses.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}
