package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	const pkg = `"Package":"github.com/bowline-net/bowline/ipam"`
	tests := []struct {
		name           string
		in             string
		noSkip         bool
		passed, failed int
		want           string // part of what is printed
	}{
		{"pass", `{"Action":"pass",` + pkg + `,"Test":"TestA"}` + "\n" + `{"Action":"pass",` + pkg + `,"Elapsed":1}`, false, 1, 0, "ok    ./ipam"},
		{"fail prints the output", `{"Action":"output",` + pkg + `,"Test":"TestA","Output":"got 1\n"}` + "\n" + `{"Action":"fail",` + pkg + `,"Test":"TestA"}`, false, 0, 1, "got 1"},
		{"skip", `{"Action":"skip",` + pkg + `,"Test":"TestA"}`, false, 0, 0, "SKIP  ./ipam TestA"},
		{"skip where none is allowed", `{"Action":"skip",` + pkg + `,"Test":"TestA"}`, true, 0, 1, "SKIP"},
		{"package without tests", `{"Action":"skip",` + pkg + `}`, true, 0, 0, ""},
		{"package that does not build", `{"Action":"build-output","ImportPath":"x","Output":"undefined: y\n"}` + "\n" + `{"Action":"fail",` + pkg + `}`, false, 0, 1, "undefined: y"},
		{"panic in a test", `{"Action":"output",` + pkg + `,"Test":"TestA","Output":"panic: no\n"}` + "\n" + `{"Action":"fail",` + pkg + `}`, false, 0, 1, "DIED  ./ipam TestA"},
		{"not JSON", "go: no such tool", false, 0, 0, "go: no such tool"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			s := newSummary(&out, tt.noSkip)
			if err := s.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			if s.passed != tt.passed || s.failed != tt.failed {
				t.Errorf("%d passed, %d failed; want %d and %d", s.passed, s.failed, tt.passed, tt.failed)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("printed %q, want it to hold %q", out.String(), tt.want)
			}
		})
	}
}

func TestAddSumsUp(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "counts")
	for range 2 {
		if err := add(file, 3, 1); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(file); string(got) != "6 2\n" {
		t.Errorf("file holds %q, want %q", got, "6 2\n")
	}
}
