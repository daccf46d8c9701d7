package bowline

import "fmt"

// A Difference is one thing that is not as it was left.
type Difference struct {
	Place string `json:"place"`          // such as "link bwo0123456789ab"
	Key   string `json:"key"`            // such as "master"
	Have  string `json:"have,omitempty"` // empty: it is gone
	Want  string `json:"want,omitempty"` // empty: it should not be there
}

// String returns d as a sentence.
func (d Difference) String() string {
	switch {
	case d.Have == "":
		return fmt.Sprintf("%s has no %s, want %s", d.Place, d.Key, d.Want)
	case d.Want == "":
		return fmt.Sprintf("%s has %s %s, want none", d.Place, d.Key, d.Have)
	}
	return fmt.Sprintf("%s has %s %s, want %s", d.Place, d.Key, d.Have, d.Want)
}

// FirstDifference returns the first of ds as an error that wraps [ErrDiffers]
// and starts with where, or nil if there is none.
func FirstDifference(where string, ds []Difference) error {
	if len(ds) == 0 {
		return nil
	}
	text := where + ": " + ds[0].String()
	if more := len(ds) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return Wrong(ErrDiffers, text)
}
