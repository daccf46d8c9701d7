package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// The help of every command fits one screen and is what testdata holds;
// BOWLINE_UPDATE=1 writes that.
func TestHelp(t *testing.T) {
	t.Parallel()
	const file = "testdata/help.txt"
	var all bytes.Buffer
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		argv := append(strings.Fields(c.CommandPath())[1:], "--help")
		var out, errOut bytes.Buffer
		a := &app{stdout: &out, stderr: &errOut}
		if code := a.run(t.Context(), argv); code != exitDone || errOut.Len() > 0 {
			t.Errorf("%v: exit code %d, %s", argv, code, errOut.String())
		}
		lines := strings.Split(out.String(), "\n")
		for _, line := range lines {
			if len(line) > 110 {
				t.Errorf("%v: longer than 110 characters: %s", argv, line)
			}
		}
		if len(lines) > 40 {
			t.Errorf("%v: %d lines do not fit a screen", argv, len(lines))
		}
		fmt.Fprintf(&all, "-- %s --\n%s", strings.Join(argv, " "), out.String())
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	each(new(app).root())
	if os.Getenv("BOWLINE_UPDATE") == "1" {
		if err := os.WriteFile(file, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), all.String()); diff != "" {
		t.Errorf("%s differs (BOWLINE_UPDATE=1 writes it):\n%s", file, diff)
	}
}
