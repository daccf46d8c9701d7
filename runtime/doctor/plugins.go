package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/runtime"
)

// plugins looks for our executables, asks the plugins of each network whether
// they could attach now, and knocks at the sockets that Docker uses.
func (d *doctor) plugins(ctx context.Context) {
	for _, name := range []string{"bowline-bridge", "bowline-ipam"} {
		d.executable(name, Fail)
	}
	for _, name := range []string{"bowline-dhcp", "bowline-host", "bowline-macvlan"} {
		d.executable(name, Note)
	}
	networks, err := d.rt.Networks(ctx)
	if err != nil {
		d.unsure(err)
	}
	for _, n := range networks {
		if err := d.rt.Status(ctx, n.Name); err != nil {
			d.say(Warn, err.Error(), "")
		} else {
			d.say(OK, fmt.Sprintf("network %q is ready", n.Name), "")
		}
	}
	sockets, _ := filepath.Glob(filepath.Join(state.PluginDir(), "bowline-*.sock"))
	for _, path := range sockets {
		d.socket(ctx, path)
	}
}

// executable looks for a plugin; missing is how bad it is if there is none.
func (d *doctor) executable(name string, missing Level) {
	var found []string
	for _, dir := range runtime.SearchPath() {
		path := filepath.Join(dir, name)
		if s, err := os.Stat(path); err == nil && s.Mode().IsRegular() && s.Mode().Perm()&0o111 != 0 {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		d.say(missing, fmt.Sprintf("no %s in %s", name, strings.Join(runtime.SearchPath(), ", ")),
			"install it into /opt/cni/bin, or name its directory in BOWLINE_CNI_PATH")
		return
	}
	d.say(OK, found[0], "")
	for _, other := range found[1:] {
		if !same(found[0], other) {
			d.say(Note, fmt.Sprintf("%s is another one, which other engines may use", other), "install the same one")
		}
	}
}

// same reports whether two files hold the same bytes.
func same(a, b string) bool {
	x, errA := os.ReadFile(a)
	y, errB := os.ReadFile(b)
	return errA == nil && errB == nil && string(x) == string(y)
}

// socket knocks: a socket without a server stalls every call of dockerd for
// 15 seconds.
func (d *doctor) socket(ctx context.Context, path string) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		c.Close()
		d.say(OK, path+" is served", "")
	case errors.Is(err, syscall.ECONNREFUSED):
		unit := strings.TrimSuffix(filepath.Base(path), ".sock")
		d.say(Fail, path+" has no server, so dockerd waits 15 s for each call",
			fmt.Sprintf("systemctl restart %s, or rm %s", unit, path))
	default:
		d.unsure(err)
	}
}
