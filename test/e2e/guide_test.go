package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A guide is a page of docs/engines, which a test follows as a reader would:
// it writes the files and runs the commands that stand there, in turn.
//
// A block of console holds commands after "# " or "$ ", which "> " lines
// continue, and below each what it prints; "..." stands for anything. A block
// of something else is a file if the paragraph before it ends with its name, as
// in `/etc/a.json`: here. What comes after <!-- reader only: WHY --> is not for
// the test.
type guide struct {
	m        *machine
	name     string
	sections []section
	run      map[string]func() // instead of commands that no test can run
	replace  *strings.Replacer // for another tool with the same commands; nil for none
}

type section struct {
	title    string
	blocks   []block
	followed bool
}

type block struct {
	line       int    // of its first line
	file       string // to be written; else it is console
	lines      []string
	readerOnly bool
}

var filePattern = regexp.MustCompile("`([^` ]+\\.[a-z]+)`:$")

// sections reads a page. What comes before the first title is section "".
func sections(lines []string) []section {
	found := []section{{}}
	before := "" // the last line with text
	for i := 0; i < len(lines); i++ {
		if title, ok := strings.CutPrefix(lines[i], "## "); ok {
			found = append(found, section{title: title})
		}
		lang, opens := strings.CutPrefix(lines[i], "```")
		if !opens {
			if lines[i] != "" {
				before = lines[i]
			}
			continue
		}
		b := block{line: i + 2, readerOnly: strings.HasPrefix(before, "<!-- reader only: ")}
		if m := filePattern.FindStringSubmatch(before); m != nil {
			b.file = m[1]
		}
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			b.lines = append(b.lines, lines[i])
		}
		if before = ""; b.file != "" || lang == "console" {
			s := &found[len(found)-1]
			s.blocks = append(s.blocks, b)
		}
	}
	return found
}

// guide reads docs/engines/NAME, and has the machine's shell begin in a
// directory that is to it what a clone of the repository is to a reader. The
// test must follow all sections but those of others.
func (h *machine) guide(name string, others ...string) *guide {
	h.t.Helper()
	data, err := os.ReadFile("../../docs/engines/" + name)
	if err != nil {
		h.t.Fatal(err)
	}
	g := &guide{m: h, name: name, sections: sections(strings.Split(string(data), "\n")), run: map[string]func(){}}
	h.t.Cleanup(func() {
		if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
			return // a part of the test was asked for
		}
		for _, s := range g.sections {
			if len(s.blocks) > 0 && !s.followed && !h.t.Failed() && !slices.Contains(others, s.title) {
				h.t.Errorf("docs/engines/%s: nothing follows section %q", name, s.title)
			}
		}
	})
	h.clone()
	return g
}

// clone makes a directory with what "make install" takes, built already.
func (h *machine) clone() {
	h.t.Helper()
	dir := filepath.Join(h.dir, "clone")
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	top, err := filepath.Abs("../..")
	if err != nil {
		h.t.Fatal(err)
	}
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, name := range []string{"Makefile", "packaging", "docs"} {
		link(filepath.Join(top, name), name)
	}
	abs, err := filepath.Abs(binDir)
	if err != nil {
		h.t.Fatal(err)
	}
	link(abs, "bin")
	h.write(filepath.Join(dir, "GNUmakefile"), "include Makefile\nbuild: ;\n")
}

// write writes a file, of the machine if it is in a directory of its own.
func (h *machine) write(path, text string) {
	h.t.Helper()
	cmd := h.inside("sh", "-c", `mkdir -p "$(dirname "$1")" && cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("write %s: %v %s", path, err, out)
	}
}

// follow does what sections of the guide say, "" being what comes before the
// first title.
func (g *guide) follow(t testing.TB, titles ...string) {
	t.Helper()
	for _, title := range titles {
		found := false
		for i := range g.sections {
			if s := &g.sections[i]; s.title == title {
				found, s.followed = true, true
				for _, b := range s.blocks {
					g.block(t, b)
				}
			}
		}
		if !found {
			t.Fatalf("docs/engines/%s has no section %q", g.name, title)
		}
	}
}

func (g *guide) block(t testing.TB, b block) {
	t.Helper()
	switch {
	case b.readerOnly:
		return
	case b.file != "":
		path := b.file
		if !filepath.IsAbs(path) {
			path = filepath.Join(g.m.dir, "clone", path)
		}
		g.m.write(path, strings.Join(b.lines, "\n")+"\n")
		return
	}
	lines := b.lines
	for i := 0; i < len(lines); {
		if !strings.HasPrefix(lines[i], "# ") && !strings.HasPrefix(lines[i], "$ ") {
			t.Fatalf("docs/engines/%s:%d: %q is not a command", g.name, b.line+i, lines[i])
		}
		where, command := fmt.Sprintf("docs/engines/%s:%d", g.name, b.line+i), lines[i][2:]
		for i++; i < len(lines) && strings.HasPrefix(lines[i], "> "); i++ {
			command += "\n" + lines[i][2:]
		}
		var want []string
		for ; i < len(lines) && !strings.HasPrefix(lines[i], "# ") && !strings.HasPrefix(lines[i], "$ "); i++ {
			want = append(want, lines[i])
		}
		g.command(t, where, command, want)
	}
}

// command runs one command, and compares what it prints if the guide says it. A
// download is tried again for a while: a reader is slower than a test, and finds
// the server up.
func (g *guide) command(t testing.TB, where, command string, want []string) {
	t.Helper()
	if f := g.run[command]; f != nil {
		f()
		return
	}
	if g.replace != nil {
		command = g.replace.Replace(command)
	}
	once := func() error {
		// One shell after another, each with the variables of the one before.
		cmd := g.m.inside("bash", "-c", "cd "+g.m.dir+"/clone; [ ! -e ../session ] || . ../session; set -a\n"+command+"\nrc=$?; export -p >../session; exit $rc")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %s: %w\n%s", where, command, err, out)
		}
		if got := strings.TrimSpace(string(out)); !prints(got, want) {
			return fmt.Errorf("%s: %s prints\n%s\nthe guide says\n%s", where, command, got, strings.Join(want, "\n"))
		}
		return nil
	}
	if strings.Contains(command, "wget ") {
		eventually(t, once)
	} else if err := once(); err != nil {
		t.Fatal(err)
	}
}

// prints reports whether the first lines are those that the guide says.
func prints(got string, want []string) bool {
	lines := strings.Split(got, "\n")
	for i, w := range want {
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(w), `\.\.\.`, ".*") + "$"
		if i >= len(lines) || !regexp.MustCompile(pattern).MatchString(lines[i]) {
			return false
		}
	}
	return true
}
