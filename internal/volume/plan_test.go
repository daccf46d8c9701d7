package volume

import (
	"errors"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

// replica reads one letter per snapshot, oldest first: the letter is its name,
// and a dash before it makes it another one of that name. "ab-c" has a, b and a
// c that is not the c of others.
func replica(host, letters string) Replica {
	r := Replica{Host: host}
	other := ""
	for _, c := range letters {
		if c == '-' {
			other = host + "'s "
			continue
		}
		r.Snapshots = append(r.Snapshots, Snapshot{Name: string(c), ID: ID(other + string(c))})
		other = ""
	}
	return r
}

func TestPlan(t *testing.T) {
	t.Parallel()
	tests := []struct {
		from, to, name string
		want           string // BASE>TO, >TO for all of it, "" for nothing to send, or a reason
	}{
		{"a", "", "a", ">a"},
		{"abc", "", "b", ">b"},
		{"a", "a", "a", ""},
		{"abc", "abc", "b", ""},
		{"ab", "a", "b", "a>b"},
		{"abcd", "ab", "d", "b>d"},
		{"abcd", "bd", "c", "b>c"},    // d is newer, and known
		{"abcd", "acx", "d", "x"},     // taken there after c
		{"abcd", "xac", "d", "c>d"},   // from before they met
		{"bcd", "abc", "d", "c>d"},    // a is no longer here
		{"bcd", "a", "d", "!a"},       // nothing is common any more
		{"abc", "a-bc", "b", "=b"},    // another b
		{"abc", "ab-c", "c", "=c"},    //
		{"abc", "a-b", "c", "x-b"},    // another b, which is in nobody's way, but is later than a
		{"ab", "-a", "b", "!a"},       //
		{"abc", "c", "a", ">a"},       // an older one, of which it has only what came later
		{"abc", "ab", "z", "unknown"}, // no such snapshot
	}
	for _, tt := range tests {
		d, ok, err := Plan(replica("src", tt.from), replica("dst", tt.to), tt.name)
		got := ""
		var conflict *ConflictError
		switch {
		case errors.As(err, &conflict):
			got = map[Reason]string{NameTaken: "=", Unrelated: "!", Diverged: "x"}[conflict.Reason] + conflict.At.Name
			if conflict.Reason == Diverged && got == "xx" {
				got = "x"
			}
			if strings.HasPrefix(string(conflict.At.ID), "dst's") && conflict.Reason == Diverged {
				got = "x-" + conflict.At.Name
			}
			if msg := err.Error(); !strings.Contains(msg, "src has") || !strings.Contains(msg, "dst has") || !errors.Is(err, bowline.ErrConflict) {
				t.Errorf("conflict of %q and %q does not print both sides: %v", tt.from, tt.to, err)
			}
		case errors.Is(err, bowline.ErrUnknown):
			got = "unknown"
		case err != nil:
			t.Errorf("Plan(%q, %q, %q): %v", tt.from, tt.to, tt.name, err)
		case ok && d.Base == nil:
			got = ">" + d.To.Name
		case ok:
			got = d.Base.Name + ">" + d.To.Name
		}
		if got != tt.want {
			t.Errorf("Plan(%q, %q, %q) = %q, want %q", tt.from, tt.to, tt.name, got, tt.want)
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"a": true, "A.b-c_9": true, strings.Repeat("a", 128): true,
		"": false, ".": false, "..": false, ".a": false, "-a": false, "a/b": false, "a b": false, "é": false, "a\x00": false, strings.Repeat("a", 129): false,
	} {
		if err := CheckName("volume", name); (err == nil) != good {
			t.Errorf("CheckName(%q) = %v, want good %v", name, err, good)
		} else if err != nil && !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("CheckName(%q) = %v, want ErrInvalid", name, err)
		}
	}
}

// TestOnto: what a delta goes onto, and what it says when that cannot be.
func TestOnto(t *testing.T) {
	t.Parallel()
	a, b, c := Snapshot{Name: "a", ID: "1"}, Snapshot{Name: "b", ID: "2"}, Snapshot{Name: "c", ID: "3"}
	for _, tt := range []struct {
		name  string
		delta Delta
		have  []Snapshot
		base  string
		err   error
	}{
		{"all, to nothing", Delta{To: b}, nil, "", nil},
		{"all, to others", Delta{To: b}, []Snapshot{a}, "", nil},
		{"onto its base", Delta{&a, b}, []Snapshot{a, c}, "a", nil},
		{"onto its base, renamed there", Delta{&a, b}, []Snapshot{{Name: "x", ID: "1"}}, "x", nil},
		{"no base", Delta{&a, b}, []Snapshot{c}, "", bowline.ErrUnknown},
		{"another base of that name", Delta{&a, b}, []Snapshot{{Name: "a", ID: "9"}}, "", bowline.ErrUnknown},
		{"there already", Delta{&a, b}, []Snapshot{a, b}, "", bowline.ErrConflict},
		{"there by another name", Delta{To: b}, []Snapshot{{Name: "x", ID: "2"}}, "", bowline.ErrConflict},
		{"another one of that name", Delta{To: b}, []Snapshot{{Name: "b", ID: "9"}}, "", bowline.ErrConflict},
	} {
		if base, err := tt.delta.Onto("data", tt.have); base != tt.base || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %q, %v; want %q, %v", tt.name, base, err, tt.base, tt.err)
		}
	}
}
