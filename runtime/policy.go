package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bowline-net/bowline"
)

// A Policy is whom one attachment may talk to.
type Policy struct {
	Driver    string   `json:"driver"`
	Network   string   `json:"network"`
	Container string   `json:"container"`
	Interface string   `json:"interface"`
	ID        string   `json:"id"` // of the endpoint, unique within driver and network
	Rules     []string `json:"rules"`
}

// Policies returns the attachments that have a policy, with how often each of
// its rules decided: those that w means, or all if w.Container is empty. The
// error is as of a search for w.
func (r *Runtime) Policies(ctx context.Context, w Wanted) ([]Stat, error) {
	meant := map[[3]string]bool{}
	if w.Container != "" {
		found, err := r.find(ctx, w)
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			meant[[3]string{e.Driver, e.Network, e.ID}] = true
		}
	}
	all, err := r.Stats(ctx)
	var rows []Stat
	for _, s := range all {
		if len(s.Policy) > 0 && (w.Container == "" || meant[[3]string{s.Driver, s.Network, s.ID}]) {
			rows = append(rows, s)
		}
	}
	return rows, err
}

// SetPolicy replaces the rules of the attachments that w means, whichever engine
// made them, and returns what they are then: the ones given, before those of the
// network. The error is as of a search for w, or wraps [bowline.ErrInvalid].
func (r *Runtime) SetPolicy(ctx context.Context, w Wanted, rules string) ([]Policy, error) {
	if _, err := bowline.ParsePolicy(w.Container, rules); err != nil {
		return nil, err
	}
	found, err := r.find(ctx, w)
	if err != nil {
		return nil, err
	}
	var all []Policy
	var errs []error
	for _, e := range found {
		answers, err := Ask[Policy](ctx, r, Verb{Name: "policy", Driver: e.Driver, Args: []string{e.Network, e.ID, rules}})
		errs = append(errs, err)
		for _, a := range answers {
			a.Row.Container = w.Container
			all = append(all, a.Row)
		}
	}
	return all, errors.Join(errs...)
}

// requestPolicy hands the rules that c asks for to our plugin, which is the only
// kind that has them.
func (a *Attachment) requestPolicy(c ConnectSpec) error {
	if c.Policy == "" {
		return nil
	}
	if _, err := bowline.ParsePolicy(fmt.Sprintf("network %q", c.Network), c.Policy); err != nil {
		return err
	}
	if !strings.HasPrefix(a.Plugin, ownPrefix) {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: policy=%q: %s has none, want a network of a plugin of ours", c.Network, c.Policy, a.Plugin))
	}
	a.Args = append(a.Args, [2]string{"POLICY", strings.ReplaceAll(c.Policy, ";", "|")}) // semicolons part the arguments
	return nil
}
