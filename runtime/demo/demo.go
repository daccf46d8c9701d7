// Package demo shows the whole of Bowline at work on the host it runs on, and
// proves that nothing stays behind.
//
// It uses the real directories and the real host namespace, for a proof in a
// private corner would prove little. It disturbs nobody: its networks and
// sandboxes have names of their own, its subnets are free ones, nothing it sends
// leaves the machine, and the forwarding switches that attaching turns on are
// put back at the end.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/runtime"
)

// prefix starts the name of all that a demo makes.
const prefix = "bowline-demo-"

// plan is what is made: sandboxes by network.
var plan = []struct {
	network   string
	sandboxes []string
}{
	{"red", []string{"red-1", "red-2"}},
	{"blue", []string{"blue-1", "blue-2"}},
	{lanName, []string{"lan-1", "lan-2"}},
}

var errInterrupted = errors.New("interrupted; everything was taken back")

// A Report is what a demo found out.
type Report struct {
	Sandboxes   []Member     `json:"sandboxes"`
	Reach       []Reach      `json:"reach"`
	Attach      Timing       `json:"attach"`
	Detach      Timing       `json:"detach"`
	Differences []Difference `json:"differences"` // of the host before and after
	Took        float64      `json:"seconds"`
}

// OK reports whether all was as it should be.
func (r Report) OK() bool {
	for _, x := range r.Reach {
		if x.Reached != x.Expected {
			return false
		}
	}
	return len(r.Reach) > 0 && len(r.Differences) == 0
}

// A demo is one run.
type demo struct {
	rt      *runtime.Runtime
	self    string // executable of the command line
	out     io.Writer
	servers []*server
	report  Report
}

// Run runs the demo and tells it on out, for people. self is the executable of
// the command line, which must have [Serve] as "demo serve NAME" and [Probe] as
// "demo probe". When ctx ends, it takes everything back at once and compares as
// always. It must be called from the main goroutine: what it starts dies with
// the thread that calls.
func Run(ctx context.Context, rt *runtime.Runtime, self string, out io.Writer) (Report, error) {
	began := time.Now()
	unlock, err := state.Run().Lock("demo")
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	if err := adoptOrphans(); err != nil {
		return Report{}, err
	}
	d := &demo{rt: rt, self: self, out: out}
	if err := d.clearKilled(ctx); err != nil {
		return Report{}, fmt.Errorf("clear what an earlier demo left: %w", err)
	}
	before, err := snapshot(ctx, self)
	if err != nil {
		return Report{}, err
	}
	if err := saveSysctls(ctx); err != nil {
		return Report{}, err
	}
	err = d.act(ctx)
	if ctx.Err() != nil {
		err = errInterrupted // whatever it broke
	}
	// From here on nothing is to be interrupted.
	ctx = context.WithoutCancel(ctx)
	d.say("\nTaking everything back.")
	err = errors.Join(err, d.remove(ctx), restoreSysctls(ctx))
	waitOrphans()
	after, snapErr := snapshot(ctx, self)
	if snapErr != nil {
		return d.report, errors.Join(err, snapErr)
	}
	d.report.Differences = compare(before, after)
	d.report.Took = time.Since(began).Seconds()
	d.sayComparison(before)
	return d.report, err
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// act makes all, shows it and measures it.
func (d *demo) act(ctx context.Context) error {
	if err := d.create(ctx); err != nil {
		return err
	}
	if err := d.showReach(ctx); err != nil {
		return err
	}
	return d.measure(ctx)
}

// create makes the networks and sandboxes, connects them and starts a server in
// each.
func (d *demo) create(ctx context.Context) error {
	for _, p := range plan {
		n, err := d.createNetwork(ctx, p.network)
		if err != nil {
			return err
		}
		d.say("network %-7s %s", p.network, texts(n.Subnets))
		for _, name := range p.sandboxes {
			if err := d.createMember(ctx, p.network, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demo) createNetwork(ctx context.Context, name string) (runtime.Network, error) {
	if name == lanName {
		return d.createLAN(ctx)
	}
	return d.rt.CreateNetwork(ctx, runtime.NetworkSpec{Name: prefix + name, IPv6: true})
}

func (d *demo) createMember(ctx context.Context, network, name string) error {
	if _, err := d.rt.CreateSandbox(ctx, prefix+name); err != nil {
		return err
	}
	a, err := d.rt.Connect(ctx, runtime.ConnectSpec{Sandbox: prefix + name, Network: prefix + network})
	if err != nil {
		return err
	}
	m := Member{Name: name, Network: network, Addrs: a.Addrs}
	d.report.Sandboxes = append(d.report.Sandboxes, m)
	d.say("  sandbox %-7s %s", name, texts(a.Addrs))
	s, err := startServer(ctx, d.self, prefix+name, name)
	if err != nil {
		return err
	}
	d.servers = append(d.servers, s)
	return nil
}

// remove takes back what create made, as far as it got, and goes on after errors.
func (d *demo) remove(ctx context.Context) error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.stop())
	}
	for _, p := range plan {
		for _, name := range p.sandboxes {
			errs = append(errs, known(d.rt.RemoveSandbox(ctx, prefix+name, false)))
		}
	}
	for _, p := range plan {
		errs = append(errs, known(d.rt.RemoveNetwork(ctx, prefix+p.network, false)))
	}
	return errors.Join(append(errs, removeLAN(ctx))...)
}

// known drops the error that there was nothing.
func known(err error) error {
	if errors.Is(err, bowline.ErrUnknown) {
		return nil
	}
	return err
}

// clearKilled removes what a demo that was killed left behind.
func (d *demo) clearKilled(ctx context.Context) error {
	return errors.Join(d.remove(ctx), restoreSysctls(ctx))
}

func texts[T interface{ String() string }](parts []T) string {
	var all []string
	for _, p := range parts {
		all = append(all, p.String())
	}
	return strings.Join(all, "  ")
}
