package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits checks the systemd units: what they say fits the binaries, and
// systemd, where it is installed, takes them.
func TestUnits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if text := unit(t, dir, "bowline-repair.service"); !strings.Contains(text, "ExecStart=/usr/local/bin/bowline repair --watch\n") {
		t.Errorf("bowline-repair.service does not watch: %s", text)
	}
	for name, path := range map[string]string{
		"bowline-bridge": "/run/docker/plugins/bowline-bridge.sock", "bowline-host": "/run/docker/plugins/bowline-host.sock",
		"bowline-macvlan": "/run/docker/plugins/bowline-macvlan.sock",
		"bowline-ipam":    "/run/docker/plugins/bowline-ipam.sock", "bowline-dhcp": "/run/bowline/dhcp.sock",
		"bowline-volume": "/run/docker/plugins/bowline-volume.sock",
	} {
		socket := unit(t, dir, name+".socket")
		for _, want := range []string{"ListenStream=" + path + "\n", "SocketMode=0600\n", "Before=docker.service\n"} {
			if !strings.Contains(socket, want) {
				t.Errorf("%s.socket has no %s", name, want)
			}
		}
		service := unit(t, dir, name+".service")
		for _, want := range []string{"ExecStart=/usr/local/bin/" + name + " serve\n", "Requires=" + name + ".socket\n", "Before=docker.service\n"} {
			if !strings.Contains(service, want) {
				t.Errorf("%s.service has no %s", name, want)
			}
		}
		if _, err := exec.LookPath("systemd-analyze"); err != nil {
			continue // no systemd here that could disagree
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(dir, name+".socket"), filepath.Join(dir, name+".service"), filepath.Join(dir, "bowline-repair.service")).CombinedOutput()
		for l := range strings.Lines(string(out)) {
			if strings.Contains(l, name) {
				t.Errorf("systemd-analyze: %s", l)
			}
		}
		if err != nil && len(out) == 0 {
			t.Errorf("systemd-analyze: %v", err)
		}
	}
}

// unit copies a unit of the project to dir, with the built binaries' paths,
// and returns it as it is in the project.
func unit(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../packaging/systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	copied := strings.ReplaceAll(string(text), "/usr/local/bin/", binDir+"/")
	if err := os.WriteFile(filepath.Join(dir, name), []byte(copied), 0o644); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
