package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// An executor runs CNI executables. Unlike the one of libcni it keeps the
// terminal's Ctrl-C from them, so that they can finish what they began, and
// ends them when this process dies, so that they cannot go on without its locks.
type executor struct {
	version.PluginDecoder
	log io.Writer
}

// FindInPath returns the file of a plugin.
func (*executor) FindInPath(plugin string, dirs []string) (string, error) {
	return invoke.FindInPath(plugin, dirs)
}

// ExecPlugin runs one command and returns what the plugin printed. The error is
// a [*types.Error] if the plugin ran and failed.
func (e *executor) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	// Pdeathsig comes when the thread ends that started the child, so the
	// thread must not be given to a goroutine that ends it, as netns.Do does.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	var stdout, stderr bytes.Buffer
	for try := 0; ; try++ {
		stdout.Reset()
		stderr.Reset()
		c := exec.CommandContext(ctx, path)
		c.Env, c.Stdin, c.Stdout, c.Stderr = env, bytes.NewReader(stdin), &stdout, &stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		// A daemon that the plugin started may keep the pipes open for ever.
		c.WaitDelay = 2 * time.Second
		err := c.Run()
		_, _ = io.Copy(e.log, bytes.NewReader(stderr.Bytes()))
		switch {
		case err == nil || errors.Is(err, exec.ErrWaitDelay):
			return stdout.Bytes(), nil
		case errors.Is(err, syscall.ETXTBSY) && try < 10: // being installed this moment
			time.Sleep(50 * time.Millisecond)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("interrupted: %w", ctx.Err())
		default:
			return nil, pluginError(err, stdout.Bytes(), stderr.Bytes())
		}
	}
}

// pluginError returns what the plugin said: the specification has it print an
// error object on standard output.
func pluginError(err error, stdout, stderr []byte) error {
	var said types.Error
	if json.Unmarshal(stdout, &said) == nil && (said.Msg != "" || said.Code != 0) {
		return &said
	}
	text := strings.TrimSpace(string(stderr))
	if text == "" {
		text = strings.TrimSpace(string(stdout))
	}
	if text == "" {
		return fmt.Errorf("plugin said nothing: %w", err)
	}
	return fmt.Errorf("plugin said %q: %w", text, err)
}
