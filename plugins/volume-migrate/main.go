// Command bowline-volume keeps volumes with snapshots, clones and sizes, for
// people and as a Docker volume plugin. What it does is in internal/volume/pool;
// here is the command line, and Docker's words for it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/bowline-net/bowline/internal/volume/pool"
)

// version is stamped by the build.
var version = "devel"

// Exit statuses, as the help screen lists them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitNoVerb = 4
)

// A verb is what the first argument can say.
type verb struct {
	name, args, about string
	min, max          int // arguments after the flags
	run               func(ctx context.Context, c *call) error
}

// A call is one run of a verb.
type call struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	dir            string // of the pool
	size           size
	o              pool.Options
	labels         labels
	json, force    bool
	undo           bool
	base, socket   string
	level          string
}

func verbs() []verb {
	return []verb{
		{"init", "-size SIZE | -undo", "make the pool of a file with btrfs in it, or make that larger; or end it", 0, 0, initialize},
		{"create", "[-size SIZE] [-from VOLUME@SNAPSHOT | -clone VOLUME] [-label KEY=VALUE] VOLUME", "make a volume", 1, 1, create},
		{"list", "[-json]", "print the volumes", 0, 0, list},
		{"inspect", "VOLUME", "print all there is to know of a volume, as JSON", 1, 1, inspect},
		{"rm", "[-force] VOLUME", "remove a volume with its snapshots", 1, 1, remove},
		{"snapshot", "VOLUME SNAPSHOT", "keep the volume as it is", 2, 2, snapshot},
		{"snapshots", "[-json] VOLUME", "print the snapshots of a volume, oldest first", 1, 1, snapshots},
		{"rollback", "VOLUME SNAPSHOT", "make the volume what the snapshot is", 2, 2, rollback},
		{"delete", "VOLUME SNAPSHOT", "delete a snapshot", 2, 2, deleteSnapshot},
		{"resize", "-size SIZE VOLUME", "change how much a volume may hold; 0: as much as the pool has", 1, 1, resize},
		{"send", "[-base SNAPSHOT] VOLUME SNAPSHOT", "write a snapshot to standard output; with a base, what is new since", 2, 2, send},
		{"receive", "[VOLUME]", "read what send wrote from standard input", 0, 1, receive},
		{"serve", "[-socket PATH] [-log LEVEL]", "serve Docker as its volume driver", 0, 0, serve},
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run runs one verb and returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		_, _ = io.WriteString(stdout, help())
		return exitDone
	case "version", "-version", "--version":
		fmt.Fprintf(stdout, "bowline-volume %s\n", version)
		return exitDone
	}
	var names []string
	for _, v := range verbs() {
		if v.name == args[0] {
			return v.do(&call{args: args[1:], stdin: stdin, stdout: stdout, stderr: stderr})
		}
		names = append(names, v.name)
	}
	fmt.Fprintf(stderr, "bowline-volume: unknown command %q: want %s, help or version\n", args[0], strings.Join(names, ", "))
	return exitNoVerb
}

// flags returns those of a verb: the ones that its help shows.
func (v verb) flags(c *call) *flag.FlagSet {
	fs := flag.NewFlagSet(v.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringVar(&c.dir, "pool", pool.DefaultDir(), "")
	for name, add := range map[string]func(){
		"size":   func() { fs.Var(&c.size, "size", "") },
		"undo":   func() { fs.BoolVar(&c.undo, "undo", false, "") },
		"from":   func() { fs.StringVar(&c.o.From, "from", "", "") },
		"clone":  func() { fs.StringVar(&c.o.Clone, "clone", "", "") },
		"label":  func() { fs.Var(&c.labels, "label", "") },
		"json":   func() { fs.BoolVar(&c.json, "json", false, "") },
		"force":  func() { fs.BoolVar(&c.force, "force", false, "") },
		"base":   func() { fs.StringVar(&c.base, "base", "", "") },
		"socket": func() { fs.StringVar(&c.socket, "socket", socketPath(), "") },
		"log":    func() { fs.StringVar(&c.level, "log", "info", "") },
	} {
		if strings.Contains(v.args, "-"+name) {
			add()
		}
	}
	return fs
}

// do runs the verb until it ends, or is told to by SIGTERM or SIGINT.
func (v verb) do(c *call) int {
	fs := v.flags(c)
	err := fs.Parse(c.args)
	if errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(c.stdout, help())
		return exitDone
	}
	if c.args = fs.Args(); err == nil && (len(c.args) < v.min || len(c.args) > v.max) {
		err = fmt.Errorf("%d arguments: want %s", len(c.args), v.args)
	}
	if err != nil {
		fmt.Fprintf(c.stderr, "bowline-volume %s: %v\n", v.name, err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c.o.Size, c.o.Labels = uint64(c.size), c.labels
	if err := v.run(ctx, c); err != nil {
		fmt.Fprintf(c.stderr, "bowline-volume %s: %v\n", v.name, err)
		return exitFailed
	}
	return exitDone
}

func help() string {
	var b strings.Builder
	b.WriteString("volume keeps volumes with snapshots, clones and sizes, for people and for Docker.\n\nUsage:\n")
	for _, v := range verbs() {
		fmt.Fprintf(&b, "  bowline-volume %s\n  %-32s%s\n", strings.TrimSpace(v.name+" "+v.args), "", v.about)
	}
	b.WriteString(`  bowline-volume help, version

Every command takes -pool DIR, the directory of the volumes (default ` + pool.DefaultDir() + `).
SIZE is in bytes, or with K, M, G or T for powers of 1024.

Options of Docker, after "docker volume create -d bowline-volume -o":
  size=SIZE                       that the volume may hold
  from=VOLUME@SNAPSHOT            make it of a snapshot
  clone=VOLUME                    make it of a volume, as that is now

Exit status: 0 done, 1 failed, 2 wrong usage, 4 no such command.
`)
	return b.String()
}
