package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binDir holds the binaries under test. It is set once, by TestMain.
var binDir string

// binaries maps what is under test to where it is built from.
var binaries = map[string]string{
	"bowline": "runtime/bowline", "bowline-bridge": "plugins/bridge", "bowline-macvlan": "plugins/macvlan", "bowline-host": "plugins/host",
	"bowline-ipam": "ipam/bowline-ipam", "bowline-dhcp": "ipam/bowline-dhcp", "bowline-volume": "plugins/volume-migrate",
}

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "crictl" {
		if err := crictl(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if binDir = os.Getenv("BOWLINE_BIN"); binDir != "" {
		for name := range binaries {
			if !fileExists(bin(name)) {
				fmt.Fprintf(os.Stderr, "BOWLINE_BIN=%s: %s is not there; want a directory of built binaries\n", binDir, name)
				return 1
			}
		}
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "bowline-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for name, pkg := range binaries {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), "./"+pkg)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	binDir = dir
	return m.Run()
}

// bin returns the path of a binary under test, such as "bowline-bridge".
func bin(name string) string { return filepath.Join(binDir, name) }
