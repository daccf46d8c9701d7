// Command bowline-dhcp gives containers addresses of the LAN's DHCP server: to
// any CNI plugin that delegates to it, and to Docker through ours.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/bowline-net/bowline/internal/cni"
)

// version is stamped by the build.
var version = "devel"

// Exit statuses, as the help screen lists them.
const (
	exitDone = iota
	exitFailed
	exitUsage
	_ // of what only network plugins can find
	exitNoVerb
)

func main() {
	if os.Getenv("CNI_COMMAND") != "" {
		os.Exit(cni.MainDHCP(os.Stdin, os.Stdout))
	}
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"help"}
	}
	var err error
	switch args[0] {
	case "help", "-h", "-help", "--help":
		_, err = io.WriteString(stdout, help())
	case "version", "-version", "--version":
		_, err = fmt.Fprintf(stdout, "bowline-dhcp %s\n", version)
	case "list":
		err = list(args[1:], stdout)
	case "serve":
		return serve(args[1:], stdout, stderr)
	default:
		fmt.Fprintf(stderr, "bowline-dhcp: unknown command %q: want serve, list, help or version; CNI needs CNI_COMMAND in the environment\n", args[0])
		return exitNoVerb
	}
	if err != nil {
		fmt.Fprintf(stderr, "bowline-dhcp: %v\n", err)
		return exitFailed
	}
	return exitDone
}
