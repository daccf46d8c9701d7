package bowline

import (
	"errors"
	"regexp"
	"testing"
	"testing/quick"
)

func TestLinkName(t *testing.T) {
	valid := regexp.MustCompile(`^bwo[0-9a-v]{12}$`)
	if err := quick.Check(func(a, b string) bool { return valid.MatchString(LinkName("bwo", a, b)) }, nil); err != nil {
		t.Error(err)
	}
	if LinkName("bwo", "ab", "c") == LinkName("bwo", "a", "bc") {
		t.Error("the border between IDs does not count")
	}
	// Names must stay what they are: links of the last version are found by them.
	if got, want := LinkName("bwb", "web"), "bwb9df5ftnb5t1b"; got != want {
		t.Errorf("LinkName = %s, want %s", got, want)
	}
}

func TestMAC(t *testing.T) {
	if err := quick.Check(func(s string) bool {
		m := MAC(s)
		return len(m) == 6 && m[0]&1 == 0 && m[0]&2 == 2
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestWrong(t *testing.T) {
	err := Wrong(ErrInvalid, "option x: want y")
	if err.Error() != "option x: want y" || !errors.Is(err, ErrInvalid) {
		t.Errorf("Wrong = %v", err)
	}
}
