package plugin

import (
	"flag"
	"os"
	"path/filepath"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cni"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/prefault"
)

// A Spec is everything that the main of a plugin needs to know of its driver.
type Spec struct {
	Name    string // of the driver, such as "bridge"; the binary is bowline-NAME
	Summary string // one sentence for the help screen
	Version string
	// New returns the driver for this host. oneShot tells that the process
	// ends with the call: what need not be waited for may be left to the kernel.
	New func(oneShot bool) (bowline.Driver, error)
	// Explain returns the driver whose handles change nothing, but write what
	// they would do to the plan of links.
	Explain func(links *link.Dry) (bowline.Driver, error)
	// Options is the grammar of a network's options, for the help screen.
	Options func() *flag.FlagSet
	// EndpointOptions is the grammar of an endpoint's options.
	EndpointOptions func() *flag.FlagSet
	// Defaults returns the options that a network of Docker has unless it says
	// otherwise; nil: those of [cnm.GatewayDefaults].
	Defaults func(bowline.NetworkConfig) map[string]string
	// Docker says what is wrong with a network of Docker's that would do for CNI.
	// nil: nothing.
	Docker func(bowline.NetworkConfig) error
}

// Main runs the plugin and returns its exit status. With CNI_COMMAND in the
// environment it is one CNI command, of the loopback plugin if the executable is
// called by that name; else the arguments say what to do.
func Main(s Spec) int {
	if os.Getenv("CNI_COMMAND") != "" {
		if filepath.Base(os.Args[0]) == "loopback" {
			return cni.MainLoopback(os.Stdin, os.Stdout)
		}
		return s.cni()
	}
	return s.command(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// cni runs one CNI command.
func (s Spec) cni() int {
	if os.Getenv("CNI_COMMAND") == "ADD" { // which goes through most of the program
		prefault.Program()
	}
	return cni.Main(s.Name, os.Stdin, os.Stdout, func() (cni.Face, error) {
		d, err := s.New(true)
		return cni.Face{Name: s.Name, Driver: d}, err
	})
}
