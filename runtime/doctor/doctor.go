// Package doctor finds out what on a host keeps container networks from working,
// and how to mend it. It looks and tries, in a namespace that it throws away;
// it changes nothing.
package doctor

import (
	"context"

	"github.com/bowline-net/bowline/runtime"
)

// A Level says how bad a finding is.
type Level string

const (
	OK   Level = "ok"   // as it should be
	Note Level = "note" // worth knowing, nothing to mend
	Warn Level = "warn" // something does not work or will not
	Fail Level = "fail" // nothing works
)

// A Finding is one thing that was looked at.
type Finding struct {
	Area  string `json:"area"`
	Level Level  `json:"level"`
	Text  string `json:"text"`          // what was found
	Fix   string `json:"fix,omitempty"` // what mends it, as a command where one does
}

// Sick reports whether anything is to be mended.
func Sick(all []Finding) bool {
	for _, f := range all {
		if f.Level == Warn || f.Level == Fail {
			return true
		}
	}
	return false
}

// A doctor is one examination.
type doctor struct {
	rt   *runtime.Runtime
	host host
	area string
	all  []Finding
}

// Examine looks at the host that it runs on and returns all it found, the good
// as well.
func Examine(ctx context.Context, rt *runtime.Runtime) []Finding {
	d := &doctor{rt: rt, host: here}
	for _, a := range []struct {
		name string
		look func(context.Context)
	}{
		{"kernel", d.kernel},
		{"plugins", d.plugins},
		{"firewall", d.firewall},
		{"forwarding", d.forwarding},
		{"mtu", d.mtu},
		{"leftovers", d.leftovers},
		{"reference", d.reference},
	} {
		d.area = a.name
		a.look(ctx)
	}
	return d.all
}

func (d *doctor) say(l Level, text, fix string) {
	d.all = append(d.all, Finding{d.area, l, text, fix})
}

// unsure notes that something could not be looked at.
func (d *doctor) unsure(err error) { d.say(Note, "could not look: "+err.Error(), "") }
