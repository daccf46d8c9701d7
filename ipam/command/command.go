// Package command is the command line that IPAM plugins share: one CNI command if
// CNI_COMMAND says so, else a verb.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/bowline-net/bowline/internal/journal"
)

// Exit statuses, as the help screen lists them.
const (
	exitDone = iota
	exitFailed
	exitUsage
	_ // of what only network plugins can find
	exitNoVerb
)

// A Command is an executable of that Name.
type Command struct {
	Name, Version string
	Usage, Keys   string // of the help screen: what comes before the flags of serve, and after
	Verbs         []Verb
	CNI           func(stdin io.Reader, stdout io.Writer) int // returns the exit status
	Socket        Socket
	Serve         func(ctx context.Context, socket string, log *slog.Logger) error // until ctx is done
}

// A Verb is what the first argument can say, besides serve, help and version.
type Verb struct {
	Name string
	Run  func(args []string, stdout io.Writer) error
}

// A Socket is where serve listens unless it is told otherwise, and who asks there.
type Socket struct{ Path, About string }

// Main runs the executable, and does not return.
func (c Command) Main() {
	if os.Getenv("CNI_COMMAND") != "" {
		os.Exit(c.CNI(os.Stdin, os.Stdout))
	}
	os.Exit(c.run(os.Args[1:], os.Stdout, os.Stderr))
}

func (c Command) run(args []string, stdout, stderr io.Writer) int {
	verb := "help"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	var err error
	switch verb {
	case "help", "-h", "-help", "--help":
		_, err = io.WriteString(stdout, c.help())
	case "version", "-version", "--version":
		_, err = fmt.Fprintf(stdout, "%s %s\n", c.Name, c.Version)
	case "serve":
		return c.serve(args, stdout, stderr)
	default:
		known := []string{"serve"}
		for _, v := range c.Verbs {
			if v.Name == verb {
				return c.failed(stderr, c.Name, v.Run(args, stdout))
			}
			known = append(known, v.Name)
		}
		fmt.Fprintf(stderr, "%s: unknown command %q: want %s, help or version; CNI needs CNI_COMMAND in the environment\n", c.Name, verb, strings.Join(known, ", "))
		return exitNoVerb
	}
	return c.failed(stderr, c.Name, err)
}

func (c Command) failed(stderr io.Writer, place string, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "%s: %v\n", place, err)
	return exitFailed
}

// serveOptions are the flags of serve.
type serveOptions struct {
	socket string
	level  slog.Level
}

func (c Command) flags(o *serveOptions) *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.TextVar(&o.level, "log", slog.LevelInfo, "`LEVEL` debug, info, warn or error, on standard error (default info)")
	fs.StringVar(&o.socket, "socket", c.Socket.Path, "`PATH` "+c.Socket.About+" (default "+c.Socket.Path+")")
	return fs
}

// serve runs until SIGTERM or SIGINT.
func (c Command) serve(args []string, stdout, stderr io.Writer) int {
	var o serveOptions
	fs := c.flags(&o)
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(stdout, c.help())
		return exitDone
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err != nil {
		_ = c.failed(stderr, c.Name+" serve", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := journal.New(stderr, o.level)
	slog.SetDefault(log)
	return c.failed(stderr, c.Name+" serve", c.Serve(ctx, o.socket, log))
}

// help returns one screen. The flags come from the FlagSet that parses them.
func (c Command) help() string {
	var b strings.Builder
	b.WriteString(c.Usage + "\nFlags of serve:\n")
	c.flags(new(serveOptions)).VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  %-32s%s\n", "-"+f.Name+" "+value, strings.TrimSpace(strings.TrimPrefix(usage, value)))
	})
	b.WriteString("\n" + c.Keys + "\nExit status: 0 done, 1 failed, 2 wrong usage, 4 no such command.\n")
	return b.String()
}
