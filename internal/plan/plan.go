// Package plan holds what would be done, where it is written down instead.
package plan

import (
	"fmt"
	"sync"
)

// A Step is one thing that would be done.
type Step struct {
	Kind  string `json:"kind"`  // of the list below
	Where string `json:"where"` // "host" or "sandbox"
	What  string `json:"what"`  // in the words of the command that does the same, where there is one
}

// The kinds of steps.
const (
	Link    = "link"    // as for ip, bridge and tc
	Sysctl  = "sysctl"  // key=value
	Nft     = "nft"     // as for nft
	Other   = "command" // a command that is run
	Record  = "record"  // a file of ours
	Address = "address" // taken or released
	Note    = "note"    // what is worth knowing; nothing is done
)

// A Plan is steps in their order. Its methods may be called from several
// goroutines at once.
type Plan struct {
	mu     sync.Mutex
	steps  []Step
	before func()
}

// Before has f called before each step that is added, for what only shows
// afterwards; f itself adds steps with Record. It must be called before the
// first step.
func (p *Plan) Before(f func()) { p.before = f }

// Add adds a step.
func (p *Plan) Add(kind, where, format string, args ...any) {
	if p.before != nil {
		p.before()
	}
	p.Record(kind, where, format, args...)
}

// Record is Add without what Before has called.
func (p *Plan) Record(kind, where, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, Step{kind, where, fmt.Sprintf(format, args...)})
}

// Steps returns the steps so far.
func (p *Plan) Steps() []Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Step{}, p.steps...)
}
