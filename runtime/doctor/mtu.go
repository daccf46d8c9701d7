package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// mtu compares bridges of containers with the link to the world: larger packets
// than that link takes are dropped where ICMP does not come through.
func (d *doctor) mtu(ctx context.Context) {
	links, err := link.Open(nil)
	if err != nil {
		d.unsure(err)
		return
	}
	defer links.Close()
	out, err := links.DefaultLink(ctx)
	if errors.Is(err, bowline.ErrUnknown) {
		d.say(Note, "there is no default route to compare with", "")
		return
	}
	all, listErr := links.Links(ctx)
	if err = errors.Join(err, listErr); err != nil {
		d.unsure(err)
		return
	}
	bridges := 0
	for _, l := range all {
		if l.Kind != "bridge" || l.Index == out.Index {
			continue
		}
		bridges++
		if l.MTU > out.MTU {
			d.say(Warn, fmt.Sprintf("bridge %s takes %d bytes, but %s, the way out, only %d", l.Name, l.MTU, out.Name, out.MTU), d.mtuFix(l, out.MTU))
		}
	}
	d.say(OK, fmt.Sprintf("the way out is %s with %d bytes; bridges: %d", out.Name, out.MTU, bridges), "")
}

func (d *doctor) mtuFix(l link.Info, mtu int) string {
	if network, ours := strings.CutPrefix(l.Alias, networkAlias); ours {
		return fmt.Sprintf("create network %q again with mtu=%d, or without the option mtu", network, mtu)
	}
	return fmt.Sprintf("set mtu=%d where %s is configured", mtu, l.Name)
}
