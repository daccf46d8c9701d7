package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

type verbRow struct{ N string }

// verbPlugins installs shell scripts as plugins and returns a runtime that
// finds them.
func verbPlugins(t *testing.T, scripts map[string]string) *Runtime {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := New(t.Output())
	r.path = []string{dir}
	return r
}

func TestAsk(t *testing.T) {
	tests := []struct {
		name    string
		scripts map[string]string
		verb    Verb
		want    []string
		wantErr string
	}{
		{"rows of all, in order", map[string]string{
			"bowline-b": `echo '{"n":"1"}'; echo '{"n":"2"}'`,
			"bowline-a": `printf '{"n":"3"}'`,
			"other":     `echo '{"n":"4"}'`,
		}, Verb{Name: "stats"}, []string{"bowline-a 3", "bowline-b 1", "bowline-b 2"}, ""},
		{"arguments, and no CNI command", map[string]string{"bowline-a": `echo "{\"n\":\"$*$CNI_COMMAND\"}"`},
			Verb{Name: "shape", Args: []string{"c", "1"}}, []string{"bowline-a shape -json c 1"}, ""},
		{"one driver, with input", map[string]string{"bowline-a": "cat", "bowline-b": "exit 1"},
			Verb{Name: "explain", Driver: "a", Stdin: strings.NewReader(`{"n":"in"}`)}, []string{"bowline-a in"}, ""},
		{"an error hides no answer", map[string]string{
			"bowline-a": `echo '{"n":"1"}'`,
			"bowline-b": `echo 'bowline-b stats: no kernel' >&2; exit 1`,
		}, Verb{Name: "stats"}, []string{"bowline-a 1"}, "bowline-b stats: no kernel"},
		{"findings are no error", map[string]string{"bowline-a": `echo '{"n":"1"}'; exit 3`}, Verb{Name: "diff"}, []string{"bowline-a 1"}, ""},
		{"some do not know it", map[string]string{"bowline-a": `echo '{"n":"1"}'`, "bowline-b": `echo what >&2; exit 4`}, Verb{Name: "diff"}, []string{"bowline-a 1"}, ""},
		{"none knows it", map[string]string{"bowline-b": `exit 4`}, Verb{Name: "diff"}, nil, "no plugin that knows diff: want bowline-bridge, for one, in DIR"},
		{"no JSON", map[string]string{"bowline-b": `echo hello`}, Verb{Name: "diff"}, nil, `bowline-b diff: read its answer "hello": invalid character 'h' looking for beginning of value`},
	}
	t.Setenv("CNI_COMMAND", "ADD")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := verbPlugins(t, tt.scripts)
			rows, err := Ask[verbRow](t.Context(), r, tt.verb)
			var got []string
			for _, a := range rows {
				got = append(got, a.Plugin+" "+a.Row.N)
			}
			text := ""
			if err != nil {
				text = strings.ReplaceAll(err.Error(), r.path[0], "DIR")
			}
			if !slices.Equal(got, tt.want) || text != tt.wantErr {
				t.Errorf("got %q, %q\nwant %q, %q", got, text, tt.want, tt.wantErr)
			}
			if none := tt.name == "none knows it"; errors.Is(err, bowline.ErrUnknown) != none {
				t.Errorf("%v is ErrUnknown: %v, want %v", err, !none, none)
			}
		})
	}
}

// A verb that goes on ends with its context, and its answers come before.
func TestFollow(t *testing.T) {
	t.Parallel()
	r := verbPlugins(t, map[string]string{"bowline-a": `echo '{"n":"1"}'; exec tail -f /dev/null`})
	ctx, cancel := context.WithCancel(t.Context())
	got := ""
	err := Follow(ctx, r, Verb{Name: "repair"}, func(a From[verbRow]) error {
		got += a.Row.N
		cancel()
		return nil
	})
	if err != nil || got != "1" {
		t.Errorf("got %q, %v; want 1 and no error", got, err)
	}
	stop := errors.New("enough")
	if err := Follow(t.Context(), r, Verb{Name: "repair"}, func(From[verbRow]) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the callback", err)
	}
}
