// Bench runs the plugins and the reference plugins in turns, on throwaway
// hosts, and prints ratios of medians.
//
//	bench -ours bin -reference .cache/ref [-quick|-long] [SECTION...]
//
// Sections: start, ipam, chain, crowd, macvlan, path, ports, serve, docker, shape; all of
// them without arguments. It drives built binaries only. Everything it makes is
// in namespaces that end with the process and in directories that it removes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options are what the command line says.
type options struct {
	ours, reference string // directories of binaries
	dir             string // scratch, in memory where there is such a place
	quick           bool
	long            bool
}

// count returns n, or few of it in quick mode.
func (o options) count(n, few int) int {
	if o.quick {
		return few
	}
	return n
}

var sections = []struct {
	name string
	run  func(context.Context, options) error
}{
	{"start", processStart},
	{"ipam", allocation},
	{"chain", chains},
	{"crowd", crowd},
	{"macvlan", macvlans},
	{"path", packetPath},
	{"ports", published},
	{"serve", resting},
	{"docker", docker},
	{"shape", shaping},
}

func main() {
	work := run
	if len(os.Args) > 1 && os.Args[1] == endpointWord {
		work = func() error { return endpoint(os.Args[2:]) }
	}
	if len(os.Args) > 1 && os.Args[1] == floodWord {
		work = func() error { return flood(os.Args[2:]) }
	}
	if len(os.Args) > 1 && os.Args[1] == connectWord {
		work = func() error { return connecting(os.Args[2:]) }
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.ours, "ours", "bin", "`DIR` of our binaries")
	flag.StringVar(&o.reference, "reference", ".cache/ref", "`DIR` of the reference plugins")
	flag.BoolVar(&o.quick, "quick", false, "few rounds: a minute or two, for a first look")
	flag.BoolVar(&o.long, "long", false, "the full chain with 1000 attachments, too: some ten minutes more")
	flag.Parse()
	for _, dir := range []*string{&o.ours, &o.reference} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("want root: namespaces are made")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.dir, err = os.MkdirTemp(memoryDir(), "bowline-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)

	start, before := time.Now(), load()
	describe(os.Stdout, o)
	for _, s := range sections {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), s.name) {
			continue
		}
		if err := s.run(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	fmt.Printf("\nTook %v; load average before %s. Above 0.5 something else ran, and the figures are worth less.\n", time.Since(start).Round(time.Second), before)
	return nil
}

// memoryDir is where both sides keep their records, so that no disk is
// measured: /run is in memory wherever systemd is.
func memoryDir() string {
	for _, dir := range []string{"/run", "/dev/shm"} {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil || s.Type != unix.TMPFS_MAGIC {
			continue
		}
		if f, err := os.CreateTemp(dir, "bowline-bench"); err == nil {
			f.Close()
			os.Remove(f.Name())
			return dir
		}
	}
	return ""
}
