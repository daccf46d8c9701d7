package cnm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplay sends what real daemons sent, recorded from Docker 20.10 and 29,
// and compares the answers and what the driver was asked. In testdata, ">" is a
// call, "<" its answer, "!" a call of the driver, "=" restarts the plugin.
func TestReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			stateDirs(t)
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if got == string(want) {
				return
			}
			g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
			for i := range min(len(g), len(w)) {
				if g[i] != w[i] {
					t.Fatalf("%s:%d:\n got %s\nwant %s", file, i+1, g[i], w[i])
				}
			}
			t.Fatalf("%s: got %d lines, want %d; got:\n%s", file, len(g), len(w), got)
		})
	}
}

// replay plays the calls of a trace and returns the trace as it came out.
func replay(t *testing.T, trace string) string {
	r := newPublisher()
	p := newPlugin(t, r)
	var out strings.Builder
	for _, line := range strings.SplitAfter(trace, "\n") {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch kind {
		case "<", "!":
			continue // ours to tell
		case ">":
			method, body, _ := strings.Cut(rest, " ")
			status, answer := p.call(method, body)
			fmt.Fprintf(&out, "%s< %d %s\n", line, status, answer)
		case "=":
			p = newPlugin(t, r)
			p.d.restore(t.Context())
			out.WriteString(line)
		default: // comments, empty lines
			out.WriteString(line)
			continue
		}
		for _, c := range r.taken() {
			fmt.Fprintf(&out, "! %s\n", c)
		}
	}
	return out.String()
}
