// Command bowline keeps sandboxes and attaches them to container networks, shows
// who is attached where, clears what crashes left and finds out what is wrong
// with a host. It calls the network plugins through CNI, as any engine does.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set when the binary is built: -ldflags "-X main.version=...".
var version = "development"

func main() {
	cobra.EnableCommandSorting = false // help shows the usual order of work
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process as usual
	a := &app{stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.run(ctx, os.Args[1:]))
}
