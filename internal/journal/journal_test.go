package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/journal"
)

// What the context says is in each line, and empty strings are not.
func TestWith(t *testing.T) {
	var out bytes.Buffer
	ctx := journal.With(context.WithoutCancel(journal.With(t.Context(), "network", "web", "sandbox", "")), "container", "c1", slog.Int("tries", 2))
	other := journal.With(ctx, "interface", "eth0")
	log := journal.New(&out, slog.LevelInfo).With("driver", "bridge")
	log.WarnContext(ctx, "hello", "error", "none")
	log.WarnContext(other, "again")
	log.DebugContext(ctx, "not told")
	log.Info("alone")
	var got []string
	for line := range strings.Lines(out.String()) {
		_, rest, _ := strings.Cut(line, " level=")
		got = append(got, strings.TrimSpace(rest))
	}
	want := []string{
		"WARN msg=hello driver=bridge error=none network=web container=c1 tries=2",
		"WARN msg=again driver=bridge network=web container=c1 tries=2 interface=eth0",
		"INFO msg=alone driver=bridge",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv(journal.EnvFormat, "JSON")
	t.Setenv(journal.EnvLevel, "debug")
	var out bytes.Buffer
	for _, log := range []*slog.Logger{journal.New(&out, nil), journal.Lazy(&out), journal.Lazy(&out).With()} {
		out.Reset()
		log.DebugContext(journal.With(t.Context(), "network", "web"), "hello")
		var line struct{ Level, Msg, Network string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != "hello" || line.Network != "web" || line.Level != "DEBUG" {
			t.Errorf("%v: %s", err, out.String())
		}
	}
	t.Setenv(journal.EnvLevel, "loud")
	for _, log := range []*slog.Logger{journal.New(&out, nil), journal.Lazy(&out)} {
		out.Reset()
		log.Debug("no")
		log.Info("yes")
		if strings.Count(out.String(), "\n") != 1 {
			t.Errorf("a level that is none counts as info: %s", out.String())
		}
	}
}

func TestTraceID(t *testing.T) {
	t.Parallel()
	const id = "0af7651916cd43dd8448eb211c80319c"
	for given, want := range map[string]string{
		"00-" + id + "-b7ad6b7169203331-01":                       id,
		"cc-" + id + "-b7ad6b7169203331-01-what":                  id, // a later version may say more
		"00-" + id + "-b7ad6b7169203331-01-what":                  "",
		"ff-" + id + "-b7ad6b7169203331-01":                       "",
		"00-" + id + "-0000000000000000-01":                       "",
		"00-" + strings.ToUpper(id) + "-b7ad6b7169203331-01":      "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"": "", "hello": "", "00-" + id: "",
	} {
		if got := journal.TraceID(given); got != want {
			t.Errorf("TraceID(%q) is %q, want %q", given, got, want)
		}
	}
}
