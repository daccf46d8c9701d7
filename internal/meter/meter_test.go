package meter_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/meter"
)

// The test binary adds to the file that this names, and ends.
const asAdder = "BOWLINE_TEST_METER"

func TestMain(m *testing.M) {
	if path := os.Getenv(asAdder); path != "" {
		for range 100 {
			add(path)
		}
		return
	}
	os.Exit(m.Run())
}

func add(path string) {
	m, err := meter.Open(path)
	if err != nil {
		panic(err)
	}
	m.Add(meter.Op{Face: "cni", Verb: "ADD"}, 5*time.Millisecond)
	m.Add(meter.Op{Face: "cni", Verb: "ADD", Code: 11}, time.Hour)
	if err := m.Close(); err != nil {
		panic(err)
	}
}

func read(t *testing.T, path string) []meter.Series {
	t.Helper()
	all, err := meter.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b meter.Series) int { return a.Code - b.Code })
	return all
}

// Processes that begin together make one file and lose nothing.
func TestProcesses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "meter", "bridge")
	if all := read(t, path); len(all) != 0 {
		t.Errorf("no file, but series %v", all)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := exec.Command("/proc/self/exe")
			c.Env = append(os.Environ(), asAdder+"="+path)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	all := read(t, path)
	if len(all) != 2 || all[0].Op != (meter.Op{Face: "cni", Verb: "ADD"}) || all[1].Code != 11 {
		t.Fatalf("series are %+v", all)
	}
	if all[0].Count() != 800 || all[0].Counts[4] != 800 || all[0].Sum != 4*time.Second {
		t.Errorf("800 of 5 ms: %+v", all[0])
	}
	if all[1].Count() != 800 || all[1].Counts[13] != 800 {
		t.Errorf("800 of an hour: %+v", all[1])
	}
}

// What does not fit is lost, and harms nothing.
func TestFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bridge")
	m, err := meter.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		for code := range 200 {
			m.Add(meter.Op{Face: "docker", Verb: "NetworkDriver.ProgramExternalConnectivity", Code: code}, 0)
		}
		all := read(t, path)
		if len(all) < 80 || all[0].Count() != uint64(round+1) || all[0].Verb != "NetworkDriver.ProgramExternalConnectivity" {
			t.Errorf("round %d: %d series, the first %+v", round, len(all), all[0])
		}
	}
}

func TestOtherFiles(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"other version": append([]byte("bowline-meter-0\n"), make([]byte, 16<<10-16)...),
		"torn":          []byte("bowline-meter-1\n"),
	} {
		path := filepath.Join(t.TempDir(), "bridge")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := meter.Read(path); err == nil || !strings.Contains(err.Error(), "not a file of this version") {
			t.Errorf("%s: Read: %v", name, err)
		}
		add(path)
		if all := read(t, path); len(all) != 2 {
			t.Errorf("%s: %d series afterwards, want 2", name, len(all))
		}
		if kept, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(kept, data) {
			t.Errorf("%s: it was not kept: %v", name, err)
		}
	}
}

// Somebody truncates the file in use: the process goes on.
func TestTruncated(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bridge")
	m, err := meter.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	m.Add(meter.Op{Face: "cni", Verb: "ADD"}, 1)
	add(path)
	if all := read(t, path); len(all) != 2 {
		t.Errorf("series afterwards: %+v", all)
	}
}

// The price of counting one operation in a process that does nothing else.
func BenchmarkAdd(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bridge")
	for b.Loop() {
		m, err := meter.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		m.Add(meter.Op{Face: "cni", Verb: "ADD"}, time.Millisecond)
		m.Close()
	}
}
