package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// findBowline returns the command line bowline: beside this executable, in PATH,
// or where it is installed by default.
func findBowline() (string, error) {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), "bowline")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	if path, err := exec.LookPath("bowline"); err == nil {
		return path, nil
	}
	const installed = "/usr/local/bin/bowline"
	if _, err := os.Stat(installed); err == nil {
		return installed, nil
	}
	return "", errors.New("-metrics needs the command bowline, which serves them: want it beside this executable or in PATH")
}

// metricsEnv is our environment, and has plugins looked for beside this one first.
func metricsEnv() []string {
	env := os.Environ()
	self, err := os.Executable()
	if err != nil {
		return env
	}
	path := filepath.Dir(self)
	for _, more := range []string{"BOWLINE_CNI_PATH", "CNI_PATH"} {
		if list := os.Getenv(more); list != "" {
			path += string(filepath.ListSeparator) + list
			break
		}
	}
	return append(env, "BOWLINE_CNI_PATH="+path)
}

// between says how long to wait before metrics that ended are served again.
const between = time.Second

// serveMetrics has bowline serve metrics at addr until ctx is done, again and
// again. They are a process of their own because an HTTP server and Prometheus'
// library would slow the start of this executable, which is most of what a CNI
// command costs. It cannot outlive this one.
func serveMetrics(ctx context.Context, bowline, addr string, stderr io.Writer, log *slog.Logger) {
	// The child is told when the thread ends that started it.
	runtime.LockOSThread()
	for {
		c := exec.CommandContext(ctx, bowline, "metrics", "--listen", addr)
		c.Env, c.Stderr = metricsEnv(), stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
		c.WaitDelay = 2 * time.Second
		err := c.Run()
		if ctx.Err() != nil {
			return
		}
		log.Error("metrics are not served", "listen", addr, "error", fmt.Sprint(err), "again in", between)
		select {
		case <-ctx.Done():
			return
		case <-time.After(between):
		}
	}
}
