package plugin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cni"
)

// A Spec is everything that the main of a plugin needs to know of its driver.
type Spec struct {
	Name    string // of the driver, such as "bridge"; the binary is bowline-NAME
	Summary string // one sentence for the help screen
	Version string
	// New returns the driver for this host. oneShot tells that the process
	// ends with the call: what need not be waited for may be left to the kernel.
	New func(oneShot bool) (bowline.Driver, error)
	// Options is the grammar of a network's options, for the help screen.
	Options func() *flag.FlagSet
	// EndpointOptions is the grammar of an endpoint's options.
	EndpointOptions func() *flag.FlagSet
}

// Exit statuses, as the help screen lists them.
const (
	exitDone = iota
	exitFailed
	exitUsage
)

// Main runs the plugin and returns its exit status. With CNI_COMMAND in the
// environment it is one CNI command; else the arguments say what to do.
func Main(s Spec) int {
	if os.Getenv("CNI_COMMAND") != "" {
		return s.cni()
	}
	return s.command(os.Args[1:], os.Stdout, os.Stderr)
}

// cni runs one CNI command, away from the main goroutine: that one has the main
// thread to itself (see package netns), and waking a certain thread for every
// answer of the kernel costs a tenth of the whole ADD.
func (s Spec) cni() int {
	status := make(chan int)
	go func() {
		status <- cni.Main(os.Stdin, os.Stdout, func() (cni.Face, error) {
			d, err := s.New(true)
			return cni.Face{Name: s.Name, Driver: d}, err
		})
	}()
	return <-status
}

func (s Spec) command(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"help"}
	}
	var err error
	switch args[0] {
	case "help", "-h", "-help", "--help":
		err = s.help(stdout)
	case "version", "-version", "--version":
		_, err = fmt.Fprintf(stdout, "bowline-%s %s\n", s.Name, s.Version)
	case "list":
		err = s.list(context.Background(), stdout)
	case "prune":
		err = s.prune(context.Background(), stdout)
	case "serve":
		return s.serve(args[1:], stderr)
	default:
		fmt.Fprintf(stderr, "bowline-%s: unknown command %q: want serve, list, prune, help or version; CNI needs CNI_COMMAND in the environment\n", s.Name, args[0])
		return exitUsage
	}
	if err != nil {
		fmt.Fprintf(stderr, "bowline-%s: %v\n", s.Name, err)
		return exitFailed
	}
	return exitDone
}
