package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestHelpIsInDocs: the guides hold what the binaries print. BOWLINE_UPDATE=1
// writes it into them.
func TestHelpIsInDocs(t *testing.T) {
	const begin, end = "<!-- help: begin -->\n```\n", "```\n<!-- help: end -->"
	for name, file := range map[string]string{
		"bowline-bridge":  "../../docs/plugins/bridge.md",
		"bowline-host":    "../../docs/plugins/host.md",
		"bowline-macvlan": "../../docs/plugins/macvlan.md",
		"bowline-ipam":    "../../docs/plugins/ipam.md",
		"bowline-dhcp":    "../../docs/plugins/dhcp.md",
		"bowline":         "../../docs/bowline.md",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(bin(name), "help").Output()
			if err != nil {
				t.Fatalf("%s help: %v", name, err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before, rest, ok := strings.Cut(string(text), begin)
			was, after, ok2 := strings.Cut(rest, end)
			if !ok || !ok2 {
				t.Fatalf("%s has no place for the help: want %q and %q", file, begin, end)
			}
			if was == string(out) {
				return
			}
			if os.Getenv("BOWLINE_UPDATE") != "1" {
				t.Fatalf("%s holds\n%s\nbut the help is\n%s\n(BOWLINE_UPDATE=1 writes it)", file, was, out)
			}
			if err := os.WriteFile(file, []byte(before+begin+string(out)+end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestExampleWorks: the configuration that the README tells people to copy.
func TestExampleWorks(t *testing.T) {
	t.Parallel()
	wire(t, firstPlugin(t, example(t, "bowline.conflist", "engines/cni.md")))
}

// TestExampleOfLAN: engines' tests work with it.
func TestExampleOfLAN(t *testing.T) {
	t.Parallel()
	example(t, "lan.conflist", "plugins/macvlan.md")
}

// example returns a configuration of docs/examples, which a page shows as it is.
func example(t *testing.T, name, page string) []byte {
	t.Helper()
	text, err := os.ReadFile("../../docs/examples/" + name)
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(guide), "```json\n"+string(text)+"```\n") {
		t.Errorf("docs/%s does not hold what is in docs/examples/%s:\n%s", page, name, text)
	}
	return text
}
