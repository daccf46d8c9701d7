package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// clockWrong has records tell of times that are ten years away, either way, as
// after a jump of the clock. The machine's clock is nobody's to set, so what is
// moved is all that was written by it: times in records, those of files, and
// until when addresses rest.
func clockWrong(f *faults) { f.clockWrong(allOn("web", "10.1.0.0/29", web6)) }

// clockWrong is for a network of five addresses, of which two are taken.
func (f *faults) clockWrong(c conf) {
	keep := f.bystanders(c)
	v := &victim{faults: f, c: c, keep: keep, box: f.sandbox("a")}
	v.must("GC")
	before := f.whole()
	for _, years := range []int{-10, 10} {
		for _, cure := range []string{"DEL", "GC"} {
			what := fmt.Sprintf("records are %+d years off", years)
			v.must("ADD")
			f.moveTimes(years)
			v.must("CHECK")
			if err := f.gc(c, append([]string{"a/eth0"}, keep...)); err != nil {
				f.t.Errorf("GC that keeps all, %s: %v", what, err)
			}
			v.must("CHECK")
			if err := v.try("ADD"); code(err) != 100 {
				f.t.Errorf("ADD of what is attached, %s: %v; want code 100", what, err)
			}
			v.must(cure)
			v.must("GC")
			v.box.empty(cure + ", " + what)
			if d := diff(before, f.whole()); d != "" {
				f.t.Fatalf("%s, %s:\n%s", cure, what, d)
			}
			f.report.add("the clock jumped by "+fmt.Sprintf("%+d", years)+" years under a container"+f.where(c), "CHECK, GC that keeps it, "+cure, 1)
		}
	}
	// What killed writers left is of the future; GC takes it all the same.
	records, err := filepath.Glob(filepath.Join(f.dir, "run", "endpoints", "[bm]*-*"))
	owners, _ := filepath.Glob(filepath.Join(f.dir, "run", "ipam", "*", "*", "owners"))
	if err != nil || len(records) == 0 || len(owners) == 0 {
		f.t.Fatalf("records are in %v and %v, %v", records, owners, err)
	}
	for _, dir := range append(records, owners...) {
		if err := os.WriteFile(filepath.Join(dir, ".tmp-1"), nil, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	f.moveTimes(10)
	v.must("GC")
	if d := diff(before, f.whole()); d != "" {
		f.t.Errorf("GC of what killed writers will have left:\n%s", d)
	}
	// All that is free rests for another year: it is given all the same.
	v.c = c.ipam("cooldown", 31536000)
	for range 6 {
		v.must("ADD")
		v.must("DEL")
	}
	v.c = c
	v.must("ADD")
	v.must("DEL")
	f.report.add("the clock jumped, so that all free addresses rest for a year"+f.where(c), "ADD", 1)
}

// moveTimes moves all times in and of the host's records.
func (f *faults) moveTimes(years int) {
	f.t.Helper()
	err := filepath.WalkDir(filepath.Join(f.dir, "run"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if header, body, ok := bytes.Cut(text, []byte("\n")); ok && bytes.HasPrefix(header, []byte("bowline-record-1 ")) {
			if text, err = moveRecord(body, years); err == nil {
				err = os.WriteFile(path, text, 0o600)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		when := time.Now().AddDate(years, 0, 0)
		return os.Chtimes(path, when, when)
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// moveRecord returns the record with its time moved.
func moveRecord(body []byte, years int) ([]byte, error) {
	var all map[string]json.RawMessage
	var created time.Time
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(all["created"], &created); err != nil {
		return nil, fmt.Errorf("created: %w", err)
	}
	moved, err := json.Marshal(created.AddDate(years, 0, 0))
	if err != nil {
		return nil, err
	}
	all["created"] = moved
	if body, err = json.Marshal(all); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "bowline-record-1 %x %d\n%s\n", sum[:4], len(body), body), nil
}
