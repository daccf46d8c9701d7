package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/runtime"
)

// How bowline-bridge marks its links, see ip link.
const (
	networkAlias  = "bowline network "
	endpointAlias = "bowline endpoint "
	limitsAlias   = "bowline limits "
)

// leftovers looks for records without their thing and things without a record.
func (d *doctor) leftovers(ctx context.Context) {
	before := len(d.all)
	d.oursGone(ctx)
	d.endpointsGone(ctx)
	d.linksWithoutRecord(ctx)
	for _, dir := range []string{state.Run().Dir, state.Lib().Dir} {
		for _, pattern := range []string{"damaged/*", "*/damaged/*", "*/*/damaged/*"} {
			kept, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, path := range kept {
				d.say(Warn, "a damaged record was set aside: "+path, "rm "+path+", once bowline gc has run")
			}
		}
	}
	if len(d.all) == before {
		d.say(OK, "every record has its thing, and every link its record", "")
	}
}

// oursGone says what bowline gc would clear, and what has lost its record.
func (d *doctor) oursGone(ctx context.Context) {
	gone, err := d.rt.GC(ctx, true)
	if err != nil {
		d.unsure(err)
	}
	for _, c := range gone {
		if c.Kind != runtime.KindNetwork { // those are asked at every run
			d.say(Warn, fmt.Sprintf("%s %s %s", c.Kind, c.Name, c.Why), "bowline gc")
		}
	}
	sandboxes, err := d.rt.Sandboxes(ctx)
	if err != nil {
		d.unsure(err)
		return
	}
	known := map[string]bool{}
	for _, s := range sandboxes {
		known[s.Path] = true
	}
	mounted, _ := filepath.Glob(filepath.Join(state.Run().Dir, "netns", "*"))
	for _, path := range mounted {
		if !known[path] {
			d.say(Warn, path+" is there without the record of a sandbox", "bowline sandbox rm "+filepath.Base(path))
		}
	}
}

// endpointsGone looks at what other engines attached through our plugins.
func (d *doctor) endpointsGone(ctx context.Context) {
	records, err := state.OpenEndpoints().All(ctx)
	if err != nil {
		d.unsure(err)
		return
	}
	attached, err := d.rt.Attachments(ctx)
	if err != nil {
		d.unsure(err)
		return
	}
	ours := map[string]bool{} // oursGone has looked at them
	for _, a := range attached {
		ours[a.ContainerID] = true
	}
	for _, e := range records {
		if e.Face == "cni" && ours[e.Container] {
			continue
		}
		who := fmt.Sprintf("container %s on network %q", e.Container+e.Name, e.Network)
		id, there := netns.Stat(e.Sandbox)
		switch {
		case e.BootID != state.BootID():
			d.say(Warn, who+" is of a previous boot", "bowline-"+e.Driver+" prune")
		case e.Face == "cni" && (!there || id.Ino != e.NetnsIno):
			d.say(Warn, who+" has no namespace any more", "bowline-"+e.Driver+" prune")
		}
	}
}

// linksWithoutRecord looks for host ends of veths that nobody will delete.
func (d *doctor) linksWithoutRecord(ctx context.Context) {
	// Links first: what is attached meanwhile has its record before its link.
	links, err := link.Open(nil)
	if err != nil {
		d.unsure(err)
		return
	}
	defer links.Close()
	all, err := links.Links(ctx)
	if err != nil {
		d.unsure(err)
		return
	}
	records, err := state.OpenEndpoints().All(ctx)
	if err != nil {
		d.unsure(err)
		return
	}
	known := map[string]bool{}
	for _, e := range records {
		known[e.Link] = true
	}
	limited := map[string]bool{}
	for _, l := range all {
		if of, ok := strings.CutPrefix(l.Alias, endpointAlias); ok {
			limited[limitsAlias+of] = true
		}
	}
	for _, l := range all {
		if strings.HasPrefix(l.Alias, limitsAlias) && !limited[l.Alias] {
			d.say(Warn, fmt.Sprintf("link %s (%s) is of a container that is gone", l.Name, l.Alias), "bowline gc, or ip link delete "+l.Name)
		}
		if strings.HasPrefix(l.Alias, endpointAlias) && !known[l.Name] {
			d.say(Warn, fmt.Sprintf("link %s (%s) has no record", l.Name, l.Alias), "bowline gc, or ip link delete "+l.Name)
		}
	}
}
