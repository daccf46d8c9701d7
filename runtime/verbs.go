package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bowline-net/bowline"
)

// A Plugin is an executable of ours, which has verbs beside those of CNI.
type Plugin struct {
	Name string // of the executable, such as "bowline-bridge"
	Path string
}

// Plugins returns the executables whose names start with "bowline-" in the
// directories of [SearchPath], sorted by name; of two with the same name the
// first.
func (r *Runtime) Plugins() []Plugin {
	var ps []Plugin
	for _, dir := range r.path {
		files, _ := filepath.Glob(filepath.Join(dir, "bowline-*"))
		for _, f := range files {
			s, err := os.Stat(f)
			name := filepath.Base(f)
			if err == nil && s.Mode().IsRegular() && s.Mode().Perm()&0o111 != 0 &&
				!slices.ContainsFunc(ps, func(p Plugin) bool { return p.Name == name }) {
				ps = append(ps, Plugin{name, f})
			}
		}
	}
	slices.SortFunc(ps, func(a, b Plugin) int { return strings.Compare(a.Name, b.Name) })
	return ps
}

// A Verb is something to ask our plugins, such as "stats": they are run with it,
// its arguments and -json, and print one JSON object per line.
type Verb struct {
	Name   string
	Args   []string
	Driver string    // ask the plugin of that driver only, such as "bridge"; "": all
	Stdin  io.Reader // goes to one plugin only, so it needs a Driver; nil: nothing
}

// From is an answer of one plugin.
type From[T any] struct {
	Plugin string // such as "bowline-bridge"
	Row    T
}

// Ask returns what the plugins answer, in the order of their names. Errors of
// some of them come joined, beside the answers of the others.
func Ask[T any](ctx context.Context, r *Runtime, v Verb) ([]From[T], error) {
	var all []From[T]
	err := Follow(ctx, r, v, func(a From[T]) error {
		all = append(all, a)
		return nil
	})
	slices.SortStableFunc(all, func(a, b From[T]) int { return strings.Compare(a.Plugin, b.Plugin) })
	return all, err
}

// Follow calls f with each answer as it comes, never with two at once, until all
// plugins have ended. An error of f, or the end of ctx, ends them; the end of
// ctx is no error. A plugin that does not know the verb has no answer; if none
// knows it, the error wraps [bowline.ErrUnknown].
func Follow[T any](ctx context.Context, r *Runtime, v Verb, f func(From[T]) error) error {
	plugins := r.Plugins()
	if v.Driver != "" {
		plugins = slices.DeleteFunc(plugins, func(p Plugin) bool { return p.Name != "bowline-"+v.Driver })
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		errs  []error
		knows bool
	)
	for _, p := range plugins {
		all.Go(func() {
			err := r.run(ctx, p, v, func(line []byte) error {
				a := From[T]{Plugin: p.Name}
				if err := json.Unmarshal(line, &a.Row); err != nil {
					return fmt.Errorf("%s %s: read its answer %.100q: %w", p.Name, v.Name, line, err)
				}
				mu.Lock()
				defer mu.Unlock()
				err := f(a)
				if err != nil {
					cancel()
				}
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if !errors.Is(err, errNoVerb) {
				knows, errs = true, append(errs, err)
			}
		})
	}
	all.Wait()
	if !knows {
		return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("no plugin that knows %s: want bowline-%s in %s", v.Name, orAny(v.Driver), strings.Join(r.path, ", ")))
	}
	return errors.Join(errs...)
}

func orAny(driver string) string {
	if driver == "" {
		return "bridge, for one,"
	}
	return driver
}

// errNoVerb says that a plugin does not know a verb.
var errNoVerb = errors.New("unknown verb")

// Exit statuses of our plugins.
const (
	exitFound  = 3 // what was found has been printed
	exitNoVerb = 4
)

// run runs the verb and calls f with each line that it prints.
func (r *Runtime) run(ctx context.Context, p Plugin, v Verb, f func(line []byte) error) error {
	// As in ExecPlugin: the child must not outlive us, nor end with a thread.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	c := exec.CommandContext(ctx, p.Path, append([]string{v.Name, "-json"}, v.Args...)...)
	var stderr bytes.Buffer
	c.Stdin, c.Stderr = v.Stdin, &stderr
	c.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "CNI_") }) // no CNI command
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 5 * time.Second
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("%s %s: %w", p.Name, v.Name, err)
	}
	var failed error
	lines := bufio.NewReaderSize(out, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 && failed == nil {
			failed = f(line)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrClosed) && failed == nil {
				failed = fmt.Errorf("%s %s: %w", p.Name, v.Name, err)
			}
			break
		}
	}
	return errors.Join(failed, r.ended(ctx, p, v, c.Wait(), stderr.Bytes()))
}

// ended says what the end of a plugin means.
func (r *Runtime) ended(ctx context.Context, p Plugin, v Verb, err error, stderr []byte) error {
	var exit *exec.ExitError
	status := 0
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	}
	switch {
	case status == exitNoVerb:
		return errNoVerb
	case err == nil, status == exitFound, ctx.Err() != nil:
		_, _ = r.log.Write(stderr)
		return nil
	}
	text := strings.TrimSpace(string(stderr))
	if said, ok := strings.CutPrefix(text, p.Name+" "+v.Name+": "); ok { // as our plugins begin
		text = said
	}
	if text == "" {
		return fmt.Errorf("%s %s: %w", p.Name, v.Name, err)
	}
	return fmt.Errorf("%s %s: %s", p.Name, v.Name, text)
}
