package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/socket"
	"github.com/bowline-net/bowline/internal/volume/pool"
)

// The guide holds what the binary prints. BOWLINE_UPDATE=1 writes it.
func TestHelpIsInDocs(t *testing.T) {
	t.Setenv("BOWLINE_LIB_DIR", "/var/lib/bowline")
	const file, begin, end = "../../docs/volumes.md", "<!-- help: begin -->\n```\n", "```\n<!-- help: end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	was, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the help", file)
	}
	if was == help() {
		return
	}
	if os.Getenv("BOWLINE_UPDATE") != "1" {
		t.Fatalf("%s holds\n%s\nbut the help is\n%s\n(BOWLINE_UPDATE=1 writes it)", file, was, help())
	}
	if err := os.WriteFile(file, []byte(before+begin+help()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"0": "0", "4096": "4K", "1K": "1K", "512MiB": "512M", "3g": "3G", "1025": "1025", "2TB": "2T", "8192G": "8T"} {
		var s size
		if err := s.Set(text); err != nil || s.String() != want {
			t.Errorf("%s is %s, %v; want %s", text, s.String(), err, want)
		}
	}
	for _, text := range []string{"", "G", "-1", "1.5G", "1X", "1KM", "99999999999999999999", "9000000T"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is taken for %s", text, s.String())
		}
	}
}

// tool runs a command line on a pool of its own.
func tool(args ...string) (status int, out, errs string) {
	var o, e bytes.Buffer
	status = run(args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

func TestCommands(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	p := "-pool=" + filepath.Join(t.TempDir(), "p")
	for _, tt := range []struct {
		args   string
		status int
		want   string // in what it prints
	}{
		{"help", 0, "bowline-volume create"},
		{"nothing", 4, "want init, create"},
		{"create", 2, "0 arguments"},
		{"create -json v", 2, "not defined"},
		{"create -label x v", 2, "want KEY=VALUE"},
		{"create -label a=b " + p + " v", 0, ""},
		{"inspect " + p + " v", 0, `"a": "b"`},
		{"list " + p, 0, "v "},
		{"list -json " + p, 0, `"name":"v"`},
		{"create -size 1G " + p + " w", 1, "cannot limit sizes"},
		{"snapshot " + p + " v s", 0, ""},
		{"snapshot " + p + " v s", 1, "exists"},
		{"snapshot " + p + " v ../s", 1, "want 1 to 128"},
		{"create -from v@s " + p + " w", 0, ""},
		{"delete " + p + " v s", 0, ""},
		{"rollback " + p + " v s", 1, "not found"},
		{"receive " + p, 1, "cut short"},
		{"init -size 1M " + p, 1, "at least"},
		{"rm " + p + " v", 0, ""},
		{"rm " + p + " v", 1, "not found"},
		{"rm " + p + " w", 0, ""},
	} {
		status, out, errs := tool(strings.Fields(tt.args)...)
		if status != tt.status || !strings.Contains(out+errs, tt.want) {
			t.Errorf("bowline-volume %s: %d, %s%s; want %d, %q", tt.args, status, out, errs, tt.status, tt.want)
		}
	}
}

// TestProtocol is what Podman does, who gives one ID for all its containers, and
// what Docker does after a kill.
func TestProtocol(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Setenv("BOWLINE_LIB_DIR", t.TempDir())
	p, err := pool.Open(t.Context(), filepath.Join(t.TempDir(), "p"))
	if err != nil {
		t.Fatal(err)
	}
	m := socket.NewMux(slog.New(slog.NewTextHandler(io.Discard, nil)))
	register(m, p)
	call := func(name, body, want string) {
		t.Helper()
		_, answer := m.Call(context.Background(), "VolumeDriver."+name, []byte(body))
		if !json.Valid(answer) || !strings.Contains(string(answer), want) {
			t.Errorf("%s %s: %s; want %s", name, body, answer, want)
		}
	}
	call("Capabilities", "", `"Scope":"local"`)
	call("List", "", `{"Volumes":[]}`)
	call("Get", `{"Name":"v"}`, "not found")
	call("Create", `{"Name":"v","Opts":{}}`, "{}")
	call("Create", `{"Name":"v"}`, "{}")
	call("Create", `{"Name":"v","Opts":{"clone":"w"}}`, "with other options")
	call("Create", `{"Name":"w","Opts":{"clonee":"v"}}`, "want clone")
	call("Create", `{"Name":"../w"}`, "want 1 to 128")
	call("Mount", `{"Name":"v","ID":"a"}`, "/v/live")
	call("Mount", `{"Name":"v","ID":"a"}`, "/v/live")
	call("Mount", `{"Name":"v","ID":"b"}`, "/v/live")
	call("Get", `{"Name":"v"}`, `"mounts":2`)
	call("Unmount", `{"Name":"v","ID":"a"}`, "{}")
	call("Unmount", `{"Name":"v","ID":"a"}`, "{}")
	call("Get", `{"Name":"v"}`, `"mounts":1`)
	call("Path", `{"Name":"v"}`, "/v/live")
	call("List", "", `"Name":"v"`)
	call("Unmount", `{"Name":"v","ID":"b"}`, "{}")
	call("Remove", `{"Name":"v"}`, "{}")
	call("Remove", `{"Name":"v"}`, "{}")
	call("Mount", `{"Name":"v","ID":"a"}`, "not found")
}
