package demo

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bowline-net/bowline/internal/state"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		before, after string // lines, separated by spaces
		want          []string
	}{
		{"same", "a b b", "a b b", nil},
		{"new", "a", "a b", []string{"+ k: b"}},
		{"gone", "a b", "b", []string{"- k: a"}},
		{"once less", "a a", "a", []string{"- k: a"}},
		{"changed", "a b", "a c", []string{"+ k: c", "- k: b"}},
		{"order", "a b", "b a", []string{"+ k: the same lines in another order"}},
	}
	if got := compare([]section{{processesKind, []string{"1", "2"}}}, []section{{processesKind, []string{"2", "3"}}}); len(got) != 1 || got[0].Line != "3" {
		t.Errorf("processes: got %v, want the new one only", got)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, d := range compare([]section{{"k", strings.Fields(tt.before)}}, []section{{"k", strings.Fields(tt.after)}}) {
				got = append(got, d.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")
	members := []Member{{"a", "n", []netip.Prefix{v4, v6}}, {"b", "m", []netip.Prefix{v4}}}
	got := table(members, members, []Reach{
		{"a", "a", v4.Addr(), true, true}, {"a", "a", v6.Addr(), false, true},
		{"a", "b", v4.Addr(), false, false}, {"b", "b", v4.Addr(), true, true},
	})
	const want = "  from \\ to   a     b\n" +
		"  a           4 -   -\n" +
		"  b                 4\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTiming(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	for _, tt := range []struct {
		took []time.Duration
		want Timing
	}{
		{[]time.Duration{3 * ms}, Timing{1, 3, 3, 3}},
		{[]time.Duration{9 * ms, 1 * ms, 2 * ms}, Timing{3, 2, 1, 9}},
		{[]time.Duration{4 * ms, 1 * ms, 2 * ms, 9 * ms}, Timing{4, 3, 1, 9}},
	} {
		if got := timing(tt.took); got != tt.want {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}

func TestReportOK(t *testing.T) {
	t.Parallel()
	good := Reach{Reached: true, Expected: true}
	for _, tt := range []struct {
		name string
		r    Report
		want bool
	}{
		{"good", Report{Reach: []Reach{good, {}}}, true},
		{"nothing was tried", Report{}, false},
		{"unreachable", Report{Reach: []Reach{good, {Expected: true}}}, false},
		{"not isolated", Report{Reach: []Reach{good, {Reached: true}}}, false},
		{"something stayed", Report{Reach: []Reach{good}, Differences: []Difference{{}}}, false},
	} {
		if got := tt.r.OK(); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// What a killed demo switched is put back by the next one.
func TestSysctlsComeBack(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "switch")
	if err := os.WriteFile(path, []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	saved := map[string]string{path: "0", path + "/gone": "7"}
	if err := sysctlStore().Put(t.Context(), "sysctls", saved); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second has nothing to do
		if err := restoreSysctls(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(path); strings.TrimSpace(string(got)) != "0" {
		t.Errorf("the switch is %q", got)
	}
	if names, err := state.Run("runtime", "demo").List(t.Context(), ""); err != nil || len(names) != 0 {
		t.Errorf("records left: %v, %v", names, err)
	}
}
