package state

import (
	"os"
	"path/filepath"
	"strings"
)

// Where things are kept. Each directory can be moved by one environment variable.
const (
	envRun    = "BOWLINE_RUN_DIR"
	envLib    = "BOWLINE_LIB_DIR"
	envPlugin = "BOWLINE_PLUGIN_DIR"
)

// Run returns the store of what ends at reboot, as kernel objects do: endpoints,
// allocations, sandboxes. Below /run/bowline, or $BOWLINE_RUN_DIR.
func Run(parts ...string) Store {
	return Store{Dir: below(envRun, "/run/bowline", parts)}
}

// Lib returns the store of what must survive a reboot: Docker networks and
// pools, networks of the runtime. Below /var/lib/bowline, or $BOWLINE_LIB_DIR.
func Lib(parts ...string) Store {
	return Store{Dir: below(envLib, "/var/lib/bowline", parts), Durable: true}
}

// MeterFile returns where how long the operations of a driver took is counted.
func MeterFile(driver string) string { return below(envRun, "/run/bowline", []string{"meter", driver}) }

// PluginDir returns where Docker looks for sockets: /run/docker/plugins, or
// $BOWLINE_PLUGIN_DIR.
func PluginDir() string { return below(envPlugin, "/run/docker/plugins", nil) }

func below(env, dir string, parts []string) string {
	if d := os.Getenv(env); d != "" {
		dir = d
	}
	return filepath.Join(append([]string{dir}, parts...)...)
}

// BootID returns what tells this boot from all others. Where the kernel does
// not say, it is empty, and nothing counts as of a previous boot.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
