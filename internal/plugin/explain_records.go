package plugin

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bowline-net/bowline/internal/plan"
)

// files returns the files of the copy by what they stand for, each with what
// tells one content from another.
func (r *recordCopy) files() map[string]string {
	all := map[string]string{}
	_ = filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return nil // locks, and files on their way
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		name := strings.Replace(path, filepath.Join(r.dir, "run"), r.run, 1)
		name = strings.Replace(name, filepath.Join(r.dir, "lib"), r.lib, 1)
		all[name] = fmt.Sprint(info.Size(), info.ModTime().UnixNano(), info.Mode())
		return nil
	})
	return all
}

// note adds to the plan what became of the records since it was asked last, so
// that records stand where they are written, before what they stand for.
func (r *recordCopy) note() {
	now := r.files()
	var gone, came []string
	for _, name := range slices.Sorted(maps.Keys(r.told)) {
		if _, is := now[name]; !is {
			gone = append(gone, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if r.told[name] != now[name] {
			came = append(came, name)
		}
	}
	was := r.told
	r.told = now
	for _, name := range came {
		pending := slices.Index(gone, name+"+")
		switch {
		case filepath.Base(filepath.Dir(name)) == "addrs":
			r.plan.Record(plan.Address, "host", "take %s", filepath.Base(name))
		case pending >= 0:
			gone = slices.Delete(gone, pending, pending+1)
			r.plan.Record(plan.Record, "host", "rename %s+ to %s", name, filepath.Base(name))
		case was[name] != "":
			r.plan.Record(plan.Record, "host", "write %s anew", name)
		default:
			r.plan.Record(plan.Record, "host", "write %s", name)
		}
	}
	for _, name := range gone {
		if filepath.Base(filepath.Dir(name)) == "addrs" {
			r.plan.Record(plan.Address, "host", "release %s", filepath.Base(name))
			continue
		}
		r.plan.Record(plan.Record, "host", "remove %s", name)
	}
}
